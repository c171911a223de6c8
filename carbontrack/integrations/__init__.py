"""Callbacks for training frameworks, each in a file that imports its framework when it is used."""
