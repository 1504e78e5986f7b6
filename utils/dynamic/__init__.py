"""Networks that change from task to task, a module a mechanism; none needs another."""
