"""`python -m carbontrack`."""

from carbontrack.cli import main

main()
