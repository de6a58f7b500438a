"""`python -m argosy.cli` is `argosy`."""

import sys

from argosy.cli.app import main

sys.exit(main())
