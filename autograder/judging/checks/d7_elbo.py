"""The checks of deliverable 7 that students cannot see."""

from autograder.judging.checks.common import check_test_score, check_training_mode
from helpers.checks.d7_elbo.model import D7, trial
from helpers.checks.d7_elbo.result import findings

check_training_mode(__name__, trial, points=0.25, lr=0.01)
check_test_score(
    __name__,
    findings,
    points=1,
    limit=D7["max_test_loss"],
    formats=(".1f", ".1f"),
    unit=" nats per image",
    images="images",
)
