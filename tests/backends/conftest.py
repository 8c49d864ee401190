"""What the contract's tests compare is told in full, as in any test module."""

import pytest

pytest.register_assert_rewrite("backends.contract", "tests.backends.contract")
