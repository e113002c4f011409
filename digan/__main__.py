"""`python -m digan VERB` is the `digan` command."""

from digan.cli import main

raise SystemExit(main())
