"""Networks of many fields with real data, as tasks of netpress.

Each module has functions that return a task. They are asked for by name:

    task = netpress.evaluate.load("cifar10-resnet20", data="corpus")
"""
