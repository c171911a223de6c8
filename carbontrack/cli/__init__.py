"""The command line: one file per command, each parses, calls and prints, and holds no logic.

A command's file is imported when the command is called, and what is heavy inside the command.
`carbontrack run` with plain options is read by `plain_run`, which needs no parser, so that the job
starts at once.
"""
