"""The verbs of the command line, one file each: arguments, the call, the report."""
