"""The broker's questions (gates.md §4): yes to what was allowed in advance, no to all else, at once.

Nothing is written here: whoever asked keeps what came of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from brokers.base import Answer, Broker, Question
from cerbero.errors import BrokerRejected, OutcomeUnknown
from cerbero.models import DecisionRequest
from orders.canonical import accepted_question_ids

# A question may be followed by another; real chains have two or three (ibkr-web-api.md §6.4).
QUESTIONS_MAX = 6


@dataclass(frozen=True)
class Talk:
    """How it ended: with rows, or with a problem. `refused` says that our last word was no; `known` that each question
    was allowed in advance, and a halt or a cancel made it a no.
    """

    questions: list[dict[str, Any]]
    answer: Answer | None = None
    problem: BaseException | None = None
    refused: bool = False
    known: bool = False

    def as_outcome(self) -> dict[str, Any]:
        """What is kept with the attempt."""
        told = {"questions": self.questions, "refused": self.refused}
        return told | ({"known": True} if self.known else {})


def converse(
    broker: Broker,
    answer: Answer,
    *,
    allowed: set[str],
    is_wanted: Callable[[], bool],
    before: Callable[[], None] | None = None,
) -> Talk:
    """Answer until the broker asks no more. After a "no" it stays unknown whether the order lives."""
    asked: list[dict[str, Any]] = []
    for _ in range(QUESTIONS_MAX):
        question = answer.question
        if question is None:
            return Talk(asked, answer=answer)
        asked += as_facts(question)
        # A yes makes the order live: whoever halted or canceled meanwhile is heard first.
        is_known = bool(question.message_ids) and set(question.message_ids) <= allowed
        say_yes = is_known and is_wanted()
        try:
            answer = broker.answer(question, confirmed=say_yes, before=before if say_yes else None)
        except BrokerRejected as no:
            return Talk(
                asked, problem=no if say_yes else OutcomeUnknown(), refused=not say_yes, known=is_known
            )
        except BaseException as problem:
            return Talk(asked, problem=problem, refused=not say_yes, known=is_known)
        if not say_yes:
            return Talk(asked, problem=OutcomeUnknown(), refused=True, known=is_known)
    return Talk(asked, problem=OutcomeUnknown())


def allowed_questions(account_ids: Sequence[str], request: DecisionRequest | None) -> set[str]:
    """The account's list, and what stood on the approval."""
    return {*account_ids, *(accepted_question_ids(request.facts) if request else [])} - {""}


def as_facts(question: Question) -> list[dict[str, Any]]:
    """Each message id with the broker's own words."""
    texts, ids = question.messages or ("",), question.message_ids or ("",)
    return [
        {"id": message_id, "text": texts[min(index, len(texts) - 1)]} for index, message_id in enumerate(ids)
    ]
