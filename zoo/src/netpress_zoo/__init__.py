"""Networks of many fields with real data. Each function returns a task; see :func:`netpress.evaluate.load`."""
