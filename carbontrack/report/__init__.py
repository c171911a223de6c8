"""Answers for people and programs: tables, explanations and summaries in every format."""
