"""Which plan a workspace has on a day: its binding says the last one, and what was before is kept by day."""

from __future__ import annotations

from datetime import date, timedelta

from schemas.wire import WorkspaceBinding, WorkspacePlan

#: (day, plan): before that day the workspace had that plan; ascending. From the last one on its binding's plan holds.
PastPlans = list[tuple[date, WorkspacePlan]]


def plan_on(past: PastPlans, last: WorkspaceBinding, day: date) -> WorkspacePlan:
    """The plan of a bound workspace on that day: the one that it had last on it."""
    return next((plan for until, plan in past if day < until), last.plan)


def past_after(past: PastPlans, old: WorkspaceBinding | None, new: WorkspaceBinding, since: date | None) -> PastPlans:
    """The earlier plans of a workspace that is bound anew; a change of the plan holds from the day `since` on (None: since ever).

    A binding that names the plan that is the last one anyway changes no day's plan, also when clocks went back.
    """
    if old is not None and old.plan == new.plan:
        return past
    if old is None or since is None:
        return []
    before = plan_on(past, old, since - timedelta(days=1))
    return [one for one in past if one[0] < since] + ([(since, before)] if before != new.plan else [])
