"""A family whose dependency is missing."""

import no_such_package_anywhere  # noqa: F401
