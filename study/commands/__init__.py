"""What is typed: one module per subcommand of ``limit-study``, and what they share."""
