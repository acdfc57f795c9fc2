"""Small helpers that know nothing of distillation: checks, files, locks, progress, text."""
