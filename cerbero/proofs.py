"""Proof that a row of the gate was written by this program: a MAC under a key that the database does not have.

Whoever reaches the database alone, as the application's role or as its owner, can write a decision that
looks like one. It has no proof, and what has none opens nothing.
"""

import json
from typing import Any

from django.conf import settings
from django.utils.crypto import constant_time_compare, salted_hmac

from cerbero.key_files import written_since
from cerbero.models import Decision, DecisionRequest


def of_request(request: DecisionRequest) -> str:
    """Over everything that was asked, of whom, and who is excluded."""
    return _mac("decisionrequest", _asked(request))


def of_decision(decision: Decision, request: DecisionRequest | None = None) -> str:
    """Over the person, the answer, and the question as it stood then, its expiry included."""
    return _mac("decision", _said(decision, request or decision.request))


def holds_request(request: DecisionRequest) -> bool:
    return _holds("decisionrequest", _asked(request), request.proof)


def holds_decision(decision: Decision, request: DecisionRequest) -> bool:
    return _holds("decision", _said(decision, request), decision.proof)


def of_body(kind: str, body: dict[str, Any]) -> str:
    """Over whatever else passes the gate; decimals, ids and times must be text already."""
    return _mac(kind, body)


def holds_body(kind: str, body: dict[str, Any], proof: str) -> bool:
    return _holds(kind, body, proof)


def _said(decision: Decision, request: DecisionRequest) -> dict[str, Any]:
    said = {
        "person": str(decision.person_id),
        "is_yes": decision.is_yes,
        "digest_shown": decision.digest_shown,
        "conditions": decision.conditions,
        "expires_at": request.expires_at.timestamp(),
    }
    return _asked(request) | said


def _asked(request: DecisionRequest) -> dict[str, Any]:
    return {
        "id": str(request.pk),
        "subject": [request.subject_kind, str(request.subject_id)],
        "digest": request.digest,
        "facts": request.facts,
        "quorum": request.quorum,
        "group": request.group,
        "excluded": sorted(map(str, request.excluded_user_ids)),
        "requested_by": request.requested_by,
    }


def _holds(kind: str, body: dict[str, Any], proof: str) -> bool:
    """Made under the secret key, under one that it has replaced and that still stands behind it, or by a process that
    began later than this one, under a key that has come since."""
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    if any([constant_time_compare(proof, _mac(kind, body, key)) for key in keys]):
        return True
    newer = written_since(settings.SECRET_KEY_PATH, settings.SECRET_KEY_STAMP).split()
    return any([constant_time_compare(proof, _mac(kind, body, key)) for key in newer])


def _mac(kind: str, body: dict[str, Any], key: str | None = None) -> str:
    words = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return salted_hmac(f"cerbero.proofs.{kind}", words, secret=key, algorithm="sha256").hexdigest()
