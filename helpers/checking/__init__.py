"""What checks are made of; the same check runs in the student's notebook and in the grader.

``check`` registers a function as a check, ``Submission`` is what it asks, ``expect``, ``fail`` and
their relatives are what it says. ``Engine`` answers the questions where the student's code runs;
``load_checks`` and ``run`` are for those who run checks.
"""

from helpers.checking.engine import Engine, failure
from helpers.checking.expect import (
    CheckFailedError,
    agree,
    close,
    expect,
    expect_close,
    expect_gradients,
    expect_number,
    expect_several,
    expect_tensor,
    expect_tensors,
    fail,
    likely_cause,
)
from helpers.checking.registry import (
    PUBLIC,
    Check,
    CheckFunction,
    Result,
    Status,
    check,
    deliverable_in,
    load_checks,
    run,
)
from helpers.checking.submission import (
    Derivatives,
    Failure,
    Layer,
    Object,
    Ref,
    Request,
    Step,
    StudentError,
    Submission,
    Trace,
)

__all__ = [
    "PUBLIC",
    "Check",
    "CheckFailedError",
    "CheckFunction",
    "Derivatives",
    "Engine",
    "Failure",
    "Layer",
    "Object",
    "Ref",
    "Request",
    "Result",
    "Status",
    "Step",
    "StudentError",
    "Submission",
    "Trace",
    "agree",
    "check",
    "close",
    "deliverable_in",
    "expect",
    "expect_close",
    "expect_gradients",
    "expect_number",
    "expect_several",
    "expect_tensor",
    "expect_tensors",
    "fail",
    "failure",
    "likely_cause",
    "load_checks",
    "run",
]
