from tests.fixtures_runs import runs

__all__ = ["runs"]
