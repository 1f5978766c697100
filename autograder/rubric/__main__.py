"""``python -m autograder.rubric d1``: try the wrong and the right solutions of a deliverable."""

import sys

from autograder.rubric.trying import main

if __name__ == "__main__":
    sys.exit(main())
