"""A second checker of reports, in exact rational arithmetic and the standard library alone.

Written from docs/certificate-format.md, not from the code of the package, which it does not import.
Liberties that the page allows: slopes are moved to multiples of 2**-100, and the boxes of curves
outward, which keeps numbers short; a square root is taken to 2**-200; values of curves are bounded
to 2**-90 or nearer.
"""

from tests.verification.second_checker.bounds import Walk
from tests.verification.second_checker.files import read_arrays
from tests.verification.second_checker.float32 import errors
from tests.verification.second_checker.networks import Network
from tests.verification.second_checker.reports import Report

__all__ = ["Network", "Report", "Walk", "errors", "read_arrays"]
