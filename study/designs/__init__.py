"""Questions as data: values by path, axes, criteria, search spaces, and the registered design they come to."""
