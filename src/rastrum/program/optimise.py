"""Makes a finished program cheaper, or repeatable: functions that change a ``Program`` and not what it computes."""

from __future__ import annotations

from dataclasses import replace

from .builder import WHOLE, Buffer, Grid, Operation, Phase, Program, View


def optimise(program: Program) -> Program:
    """Make a finished program cheaper, in place, and restart a video's maps with every frame.

    program: with all its operations appended.

    Returns the same program.
    """
    _sum_in_place(program)
    _keep_one_column(program)
    if program.spec.frames > 1:
        _restart_rows(program)
    return program


def _restart_rows(program: Program) -> None:
    """Between two frames, every map of rows and pixels takes its initial values again, its padding included."""
    written = [view.buffer for each in program.passes for view in [each.input] if view is not None]
    rows = [phase for phase in program.all_phases() if phase.kind not in WHOLE]
    written += [op.destination.buffer for phase in rows for op in phase.operations]
    with program.phase("frame"):
        assert program._phase is not None
        for buffer in dict.fromkeys(written):
            initial = Buffer(buffer.width, 0, 1, buffer.initial, single=True)
            program.buffers.append(initial)
            columns = 1 if buffer.single else buffer.before + buffer.columns + buffer.after
            to = View(buffer, 0, buffer.width, shift=0 if buffer.single else -buffer.before)
            program._phase.operations.append(Operation("copy", View(initial, 0, buffer.width), to, Grid(0, columns, 0, 0, 0, 0)))


def _sum_in_place(program: Program) -> None:
    """Give a pixel map that starts from a row map the row map's memory: the sum is then done in place, with one copy less per pixel.

    Only where no other operation needs either: the row map is rewritten for every row that is due and read by nothing else; every value of
    the pixel map is written at every column, and read only by pixel phases, behind the pixel or after it was written there.
    """
    writers: dict[Buffer, list[tuple[Phase, Operation]]] = {buffer: [] for buffer in program.buffers}
    readers: dict[Buffer, list[tuple[Phase, Operation, View]]] = {buffer: [] for buffer in program.buffers}
    for phase in program.all_phases():
        for op in phase.operations:
            writers[op.destination.buffer].append((phase, op))
            for view in (op.source, op.initial):
                if view is not None:
                    readers[view.buffer].append((phase, op, view))

    def row_map(pixels: Buffer) -> Buffer | None:
        starts = {op.initial.buffer for _, op in writers[pixels] if op.initial is not None} - {pixels}
        row = starts.pop() if len(starts) == 1 else None
        if row is None or row.single or row.rows or row.initial is not pixels.initial:
            return None
        if (row.width, row.level) != (pixels.width, pixels.level):
            return None
        in_step = all(
            phase.kind == "channel" and op.initial is not None and replace(op.initial, buffer=pixels) == op.destination
            for phase, op in writers[pixels]
        )
        rewritten = all(
            phase.kind == "row" and phase.first_row == 0 and (op.destination, op.grid.columns) == (View(row, 0, row.width), row.columns)
            for phase, op in writers[row]
        )
        due = {(op.grid.row_mask, op.grid.row_value) for _, op in writers[pixels] + writers[row]}
        finest = (1 << pixels.level) - 1
        columns = {(op.grid.column_mask, op.grid.column_value) for _, op in writers[pixels]}
        everywhere = due == columns == {(finest, 0)}
        outside = [program.condition, program.picture, *(view for each in program.passes for view in [each.input, *each.outputs])]
        only_reader = all(op.destination.buffer is pixels for _, op, _ in readers[row])
        only_reader = only_reader and not any(view is not None and view.buffer is row for view in outside)
        safe = in_step and rewritten and everywhere and only_reader and _read_after_written(program, pixels)
        return row if writers[row] and safe else None

    shared = {buffer: row for buffer in program.buffers if writers[buffer] and (row := row_map(buffer)) is not None}
    for buffer, row in shared.items():
        row.before, row.after = max(row.before, buffer.before), max(row.after, buffer.after)

    def moved(view: View) -> View:
        return replace(view, buffer=shared[view.buffer]) if view.buffer in shared else view

    program.buffers = [buffer for buffer in program.buffers if buffer not in shared]
    for each in program.passes:
        each.outputs = [None if view is None else moved(view) for view in each.outputs]
    for phase in program.all_phases():
        for index, op in enumerate(phase.operations):
            views = [op.source, op.destination, *([] if op.initial is None else [op.initial])]
            if any(view.buffer in shared for view in views):
                initial = None if op.initial is None else moved(op.initial)
                phase.operations[index] = replace(op, source=moved(op.source), destination=moved(op.destination), initial=initial)


def _keep_one_column(program: Program) -> None:
    """A map that only its own pixel writes and reads needs only one column: it then stays in the fastest cache."""
    kept = {view.buffer for each in program.passes for view in [each.input] if view is not None}
    for phase in program.all_phases():
        for op in phase.operations:
            fine = phase.kind == "channel" and op.grid.row_mask == op.grid.column_mask == op.destination.shift == 0
            for view in (op.source, op.destination, op.initial):
                if view is not None and not (fine and view.step == 1 and view.buffer.level == 0 and not view.buffer.rows):
                    kept.add(view.buffer)
    for buffer in program.buffers:
        if buffer not in kept and not buffer.single and _read_after_written(program, buffer, behind=False):
            buffer.columns, buffer.single, buffer.before, buffer.after = 1, True, 0, 0


def _read_after_written(program: Program, pixels: Buffer, behind: bool = True) -> bool:
    """Whether only pixel phases write (all of it) and read the map, what was written at the same column or, if ``behind``, before."""
    written = [False] * pixels.width
    for phase in sorted(program.all_phases(), key=lambda phase: (phase.kind == "channel", phase.index)):
        for op in phase.operations:
            for view in (op.source, op.initial):
                if view is not None and view.buffer is pixels:
                    first = view.shift * pixels.width + view.offset
                    own = written[max(first, 0) : max(first + view.size, 0)]
                    if phase.kind != "channel" or first + view.size > pixels.width or not all(own) or (first < 0 and not behind):
                        return False
            view = op.destination
            if view.buffer is pixels:
                written[view.offset : view.offset + view.size] = [True] * view.size
    return all(written)
