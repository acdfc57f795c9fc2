"""Small helpers without knowledge of distillation: checks, files, locks, progress, text."""
