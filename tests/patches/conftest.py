def pytest_collection_modifyitems(config, items):
    """The slow half runs only where it is asked for, with ``-m patches`` (``make patches``)."""
    if "patches" in config.option.markexpr:
        return
    slow = [item for item in items if item.get_closest_marker("patches")]
    items[:] = [item for item in items if item not in slow]
    config.hook.pytest_deselected(items=slow)
