"""Several requests in one call of `run`, where the first axis of every input is the batch.

What waits already is joined, as Triton does it: nobody is made to wait for company unless `max_batch_delay_ms` says so.
Bodies of plain JSON are joined before they become arrays and frames, which is most of what a small request costs;
others (Arrow, npy, tensors, other servers' envelopes) after. Each request keeps its own fate: one that does not fit
the schema is refused alone, and when `run` raises, or does not answer one item per row, each is run again by itself.
"""

import contextlib
import logging
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Any

import orjson

from argosy_serving.comparing import differs
from argosy_serving.request_context import REQUEST_ID
from argosy_serving.schema import Schema
from argosy_serving.scoring import Scorer, Work

logger = logging.getLogger("argosy")

BATCHES_OFF = "run() cannot answer batches: it gets one request at a time from here on."
_TOLERANCE = 1e-6
_HOPELESS = 3  # batches in a row that failed while their requests succeeded one by one


class Part:
    """One request of a batch: its JSON document or its arguments, and how many rows they have."""

    __slots__ = ("arguments", "careful", "document", "rows", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.document: dict[str, list[Any]] | None = None
        self.arguments: dict[str, Any] | None = None
        self.careful = False
        self.rows = 0


class Batcher:
    """Joins, runs and parts again; called in the slots' threads. Never raises."""

    def __init__(self, scorer: Scorer, schema: Schema, max_rows: int, delay_s: float = 0.0) -> None:
        self._scorer, self._schema, self.max_rows, self.delay_s = scorer, schema, max_rows, delay_s
        self._names = list(schema.inputs)
        self._failed_in_a_row = 0

    @property
    def hopeless(self) -> bool:
        """The script cannot do it: requests are run one by one from here on."""
        return self._failed_in_a_row >= _HOPELESS

    def prove(self, bodies: Sequence[bytes]) -> str:
        """Why the script cannot be given batches, by requests that it has answered one by one; "" when it can."""
        for body in bodies:
            alone, again = Work(body, {}, "sample", ""), Work(body, {}, "sample", "")
            self._scorer.score(alone)
            self._scorer.score(again)
            works = [Work(body, {}, "sample", "") for _ in range(2)]
            parts = [self.open(work) for work in works]
            rows = sum(part.rows for part in parts)
            if alone.problem is not None or alone.items is not None or not 1 < rows <= self.max_rows:
                if alone.items is not None:
                    return "run() answers with a stream"
                continue
            self.score(parts)
            self._failed_in_a_row = 0
            if works[0].batch_requests != 2:
                return f"run() does not answer {rows} rows with {rows} items"
            steady = alone.result == again.result
            if steady and any(not _alike(alone.result, work.result) for work in works):
                return "the sample in a batch is not answered as the sample alone"
        return ""

    def score_alone(self, work: Work) -> None:
        """A request without company."""
        work.decoded_at, work.batch_requests = 0.0, 1
        self._scorer.score(work)

    def open(self, work: Work) -> Part:
        """Read as much of a request as it takes to count its rows. One that cannot be read is refused, with 0 rows."""
        part = Part(work)
        REQUEST_ID.set(work.request_id)
        try:
            if work.exchange is None:
                document, part.careful = self._schema.read(work.body)
                part.rows = self._rows(document)
                if part.rows:
                    part.document = document
                    return part
            part.arguments = self._scorer.arguments(work)
            part.rows = _length(next(iter(part.arguments.values()), ()))
        except BaseException as problem:  # noqa: BLE001 - decoders may be the user's own
            _refuse(self._scorer, work, problem)
        return part

    def _rows(self, document: Any) -> int:
        """0 for what is not simply one list per input."""
        if type(document) is not dict or len(document) != len(self._names):
            return 0
        rows = 0
        for name in self._names:
            value = document.get(name)
            if type(value) is not list or (rows and len(value) != rows):
                return 0
            rows = len(value)
        return rows

    def score(self, parts: Sequence[Part]) -> None:
        """Leaves its result, or its refusal, in every Work."""
        began = monotonic()
        for part in parts:
            part.work.started_at = began  # by which they count as one slot
        good = [part for part in parts if part.work.problem is None]
        groups: dict[Any, list[_Piece]] = {}
        for piece in self._decode([part for part in good if part.document is not None]):
            groups.setdefault(_kind(piece.arguments), []).append(piece)
        for part in good:
            if part.arguments is not None:
                piece = _Piece(part.arguments, [part.work], [part.rows])
                groups.setdefault(_kind(part.arguments), []).append(piece)
        for pieces in groups.values():
            for piece in _joined(pieces):
                self._run(piece)

    def _decode(self, parts: "list[Part]") -> "list[_Piece]":
        """All in one go. When that fails, one by one: the others must not suffer, and pointers must be right."""
        if not parts:
            return []
        merged: dict[str, Any] = {name: [] for name in self._names}
        for part in parts:
            for name, values in (part.document or {}).items():
                merged[name] += values
        pieces: list[_Piece] = []
        with contextlib.suppress(Exception):  # whose it is comes out below
            arguments = self._schema.decode(merged, any(part.careful for part in parts))
            return [_Piece(arguments, [part.work for part in parts], [part.rows for part in parts])]
        for part in parts:
            try:
                arguments = self._schema.decode(part.document, part.careful)
                pieces.append(_Piece(arguments, [part.work], [part.rows]))
            except BaseException as problem:  # noqa: BLE001 - decoders may be the user's own
                _refuse(self._scorer, part.work, problem)
        return pieces

    def _run(self, piece: "_Piece") -> None:
        works = piece.works
        if len(works) == 1:
            self.score_alone(works[0])
            return
        now = monotonic()
        for work in works:
            work.decoded_at = now
        REQUEST_ID.set(",".join(work.request_id for work in works))
        try:
            value = self._scorer.run(**piece.arguments)
            plain = all(work.exchange is None for work in works)
            answers = split(value, piece.rows, plain)
            if answers is None:
                if hasattr(value, "close"):
                    value.close()  # a generator or coroutine that nobody will run
                raise _WrongLength(value, sum(piece.rows))
        except BaseException as problem:  # noqa: BLE001 - user code may raise anything, sys.exit included
            self._run_alone(works, problem)
            return
        self._failed_in_a_row = 0
        now = monotonic()
        works[0].batch_requests = len(works)
        for work, answer in zip(works, answers, strict=True):
            work.ran_at = now
            try:
                self._scorer.encode(work, answer)
            except BaseException as problem:  # noqa: BLE001 - as above
                work.problem = self._scorer.refusal(work, problem)
            work.encoded_at = monotonic()

    def _run_alone(self, works: "list[Work]", problem: BaseException) -> None:
        for work in works:
            work.decoded_at = 0.0
            self._scorer.score(work)
        if any(work.problem is not None for work in works):
            self._failed_in_a_row = 0
            return
        logger.warning("run() failed for %d requests at once, but not one by one: %r", len(works), problem)
        self._failed_in_a_row += 1
        if self.hopeless:
            logger.error(BATCHES_OFF)


class _Piece:
    """Arguments that hold the rows of these requests, in this order."""

    __slots__ = ("arguments", "rows", "works")

    def __init__(self, arguments: "dict[str, Any]", works: "list[Work]", rows: "list[int]") -> None:
        self.arguments, self.works, self.rows = arguments, works, rows


class _WrongLength(Exception):
    def __init__(self, value: Any, rows: int) -> None:
        super().__init__(f"run() answered a batch of {rows} rows with {_described(value)}, not with one item per row")


def _alike(one: bytes, other: bytes) -> bool:
    try:
        return not differs(orjson.loads(one), orjson.loads(other), _TOLERANCE, _TOLERANCE)
    except orjson.JSONDecodeError:
        return one == other


def _described(value: Any) -> str:
    length = _length(value)
    return f"a {type(value).__name__}" + (f" of {length}" if length else "")


def _refuse(scorer: Scorer, work: Work, problem: BaseException) -> None:
    work.problem = scorer.refusal(work, problem)
    work.encoded_at = monotonic()


def _length(value: Any) -> int:
    """Rows of an array, a frame or a list; 0 for what has none."""
    try:
        return len(value)
    except TypeError:
        return 0


def _kind(arguments: "dict[str, Any]") -> "tuple[Any, ...]":
    """Requests of one kind can be joined: the same inputs, and arrays that differ in their first axis only."""
    return tuple(
        (name, type(value), getattr(value, "shape", ())[1:], str(getattr(value, "dtype", "")))
        for name, value in arguments.items()
    )


def _joined(pieces: "list[_Piece]") -> "list[_Piece]":
    """One piece, or all as they are when their values will not go together."""
    if len(pieces) == 1:
        return pieces
    try:
        arguments = {name: _concatenated([piece.arguments[name] for piece in pieces]) for name in pieces[0].arguments}
    except Exception as problem:  # noqa: BLE001 - pandas' and numpy's rules
        logger.warning("Requests could not be joined: %r", problem)
        return pieces
    works = [work for piece in pieces for work in piece.works]
    return [_Piece(arguments, works, [rows for piece in pieces for rows in piece.rows])]


def _concatenated(values: "list[Any]") -> Any:
    if isinstance(values[0], list):
        return [item for value in values for item in value]
    if hasattr(values[0], "columns"):
        import pandas as pd  # it is there when there are frames

        return pd.concat(values, ignore_index=True)
    import numpy as np  # as above

    return np.concatenate(values)


def split(value: Any, rows: Sequence[int], plain: bool) -> "list[Any] | None":
    """What `run` answered, by request; None when it has not one item per row.

    Arrays, frames, series and lists are cut along their first axis, and so are those in a dict, whose texts and numbers
    belong to everybody. `plain`: the answers become JSON, so frames may be cut as rows.
    """
    if isinstance(value, dict):
        members = {
            name: [member] * len(rows) if _is_scalar(member) else split(member, rows, plain)
            for name, member in value.items()
        }
        if all(map(_is_scalar, value.values())) or any(member is None for member in members.values()):
            return None
        return [{name: member[at] for name, member in members.items() if member} for at in range(len(rows))]
    if _is_scalar(value) or not hasattr(value, "__getitem__") or _length(value) != sum(rows):
        return None
    if plain and hasattr(value, "iloc"):
        value = value.to_dict("records") if hasattr(value, "columns") else value.tolist()
    cut = value.iloc if hasattr(value, "iloc") else value
    return [cut[start : start + count] for start, count in zip(_starts(rows), rows, strict=True)]


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (str, bytes, int, float))


def _starts(rows: Sequence[int]) -> Iterable[int]:
    start = 0
    for count in rows:
        yield start
        start += count
