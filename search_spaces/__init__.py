"""Search spaces: a question each, as data. The file's name is the study's name."""
