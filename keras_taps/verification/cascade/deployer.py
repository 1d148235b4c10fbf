"""The claim about the float32 network: whether a proof holds of it, and a search for one that does.

Stages end where a bound is below 0, which is enough in real arithmetic. Rounding adds up to E to a
margin, so a bound above -E proves nothing of the network that runs. Then branch and bound is asked
whether the margin reaches -E, from the tree that is there. Its proof takes the old one's place;
if it ends without, the old one stays.
"""

from collections.abc import Callable

import numpy as np

from keras_taps.verification.cascade.task import Query, Task
from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.certificate.deadline import Deadline, OutOfTime
from keras_taps.verification.certificate.deployed import DeployedNetwork
from keras_taps.verification.certificate.schema import CERTIFIED
from keras_taps.verification.certificate.tree import Tree
from keras_taps.verification.certificate.tree_checker import proved_bounds
from keras_taps.verification.search.branch_and_bound import BranchAndBound

SHARE = 0.1  # of the timeout, at most
DOMAINS = 2048  # of an input, at most; a batch that is begun is ended
_ABOVE = 1 + 1e-6  # so that no rounding of a bound that is derived again takes the room


class Deployer:
    """Proves of the network as it is deployed what is proved of the one of the reals.

    Args:
        checker: `Checker` of the graph.
        search: Function that returns the `BranchAndBound` of the graph, or raises `ValueError`.
        clock: Function that returns the seconds now.
    """

    def __init__(
        self,
        checker: Checker,
        search: Callable[[], BranchAndBound],
        clock: Callable[[], float],
    ):
        self.checker, self.search, self.clock = checker, search, clock
        self.network = DeployedNetwork(checker.graph)

    def look(self, task, bounds, boxes):
        """See whether rigorous bounds leave room for the rounding of the network itself."""
        if not task.query.conjunctive:
            query = task.query
            task.deployed = self.network.holds(*query.box, boxes, query.forms, bounds)

    def deepen(self, tasks, timeout, account):
        """Search for proofs with room for rounding, of those tasks whose proofs leave none.

        Args:
            tasks: List of `Task`, with verdicts or without.
            timeout: Seconds a task, everything spent on it before included.
            account: Name under which the seconds are booked.
        """
        narrow = [
            task
            for task in tasks
            if task.verdict == CERTIFIED
            and task.checked
            and not (task.deployed or task.query.conjunctive)
        ]
        if not narrow:
            return
        try:
            search = self.search()
        except ValueError:
            return  # there are no trees for such a network
        pairs = []
        for task in narrow:
            began, left = self.clock(), min(SHARE * timeout, timeout - task.total_seconds)
            other = self._with_room(task, search, Deadline.after(left, self.clock))
            task.spend(account, self.clock() - began)
            if other is not None:
                other.spend("before", task.total_seconds)
                pairs.append((task, other))
        search.solve([other for _, other in pairs], timeout, SHARE * timeout, account, DOMAINS)
        for task, other in pairs:
            task.spend(account, other.seconds.get(account, 0.0))
            if other.verdict == CERTIFIED:
                self._adopt(task, other, search)

    def _with_room(self, task, search, deadline):
        """The task of proving each form of another with room for its error, or `None`."""
        query = task.query
        try:
            _, task.proved = self.checker.bounds_and_boxes(
                *query.asked, deadline=deadline, boxes=task.proved
            )
        except OutOfTime:
            return None
        room = self.network.margin_errors(*query.box, task.proved, query.forms) * _ABOVE
        if not np.all(np.isfinite(room)):
            return None
        offset = query.offset + room
        inner = *query.inner[:2], offset
        given = query.lower, query.upper, query.forms, offset, query.groups, query.index
        found = Task(Query(*given, inner=inner))
        if search.checker is self.checker:  # else its neurons are others
            found.proved, found.slopes = task.proved, task.slopes
        if task.trees:
            found.trees = [Tree.unpack(tree.pack()) for tree in task.trees]
        return found

    def _adopt(self, task, other, search):
        """Take over a proof, if all of it holds as whoever receives it will see it."""
        query = task.query
        root = search.checker.root(*query.box, boxes=other.proved)
        about = query.forms, query.offset, query.groups
        bounds = proved_bounds(root, *about, other.trees, other.slopes)
        if self.network.holds(*query.box, task.proved, query.forms, bounds[query.groups]):
            task.method, task.deployed, task.bound = "bab", True, float(bounds.max())
            task.trees, task.slopes = other.trees, other.slopes
