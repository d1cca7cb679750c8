"""Which cells of a run are left to do when it is started again: those that are not finished, and damaged ones."""

from miaod_plugin.errors import DataError

from ..cycle.cycle import Experiment, labelled_rows
from ..store.layout import Cell, Run
from ..store.own_files import CELL_FILES, own_folder
from ..store.records import LABELLED, METRICS, MODEL, SELECTED, TRAINING, read_record, training_done
from ..store.stored import CHECKSUMS, is_there, read_sums, require_sealed


def is_finished(experiment: Experiment, cell: Cell) -> bool:
    """Whether nothing of a cell is left to do, the cells before it being finished; every file of it is checked.

    But for models, which may be gone: only that of a shared cell is needed, while there are arms that start from it.

    Raises
    ------
    DataError
        If a file of the cell is damaged, or is about other images; names it.
    """
    run, folder = experiment.run, experiment.run.folder(cell)
    record = read_record(run, cell)
    if record is None:
        return False
    sums = read_sums(folder) or {}
    require_sealed(folder, [name for name in CELL_FILES if name in sums and name != MODEL])
    if record.labelled != experiment.train.ids[labelled_rows(experiment, cell)].tolist():
        raise DataError(f"{folder / LABELLED}: not the images that this cell is to be trained on")
    experiment.rows([picked["id"] for picked in record.selected or ()], folder / SELECTED)
    if not cell.arm and any(_to_begin(run, arm) for arm in run.next_cells(cell)) and not training_done(run, cell):
        raise DataError(f"{folder / MODEL}: missing or damaged, and there are arms that start from it")
    return record.selected is not None or not run.asks(cell)


def _to_begin(run: Run, cell: Cell) -> bool:
    try:
        return read_record(run, cell) is None
    except DataError:
        return True


def reopen(run: Run, cell: Cell) -> None:
    """Make a damaged cell one that is to be done.

    Of its training, what checksums vouch for stays, so that it need not be repeated where it gave other files.

    Raises
    ------
    DataError
        If links or folders stand in the place of its files.
    """
    folder = own_folder(run.folder(cell))
    if not is_there(folder / CHECKSUMS):
        (folder / TRAINING).unlink(missing_ok=True)
    (folder / METRICS).unlink(missing_ok=True)
