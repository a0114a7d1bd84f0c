"""Export a run: ``python -m ift_lightning.export run=FOLDER [merge=true] [output=FOLDER]``."""

from __future__ import annotations

from pathlib import Path

from ift_lightning.config.entry import entry_point
from ift_lightning.config.schema import ExportConfig


@entry_point("export", ExportConfig)
def main(config: ExportConfig) -> None:
    """Write a run's adapter, or its merged weights, as a Hugging Face folder."""
    run = Path(config.run).expanduser()
    output = Path(config.output).expanduser() if config.output else None
    folder = export_run(run, merge=config.merge, output=output)
    print(f"exported to {folder}")


def export_run(run: Path, *, merge: bool, output: Path | None = None) -> Path:
    """Write a run's weights to a folder of their own.

    Merging goes into base weights of full precision, whatever precision trained the adapter:
    merged into 4-bit weights, the adapter's effect would be rounded away.

    Args:
        run: Run folder.
        merge: Merge the adapter into the base weights.
        output: Folder to write, which must not exist yet; None for one inside the run.

    Raises:
        UserError: The run has no weights, its method cannot be merged, or the folder exists.
    """
    import shutil

    from ift_lightning.errors import UserError
    from ift_lightning.modeling.adapters import load_adapter, merge_adapter
    from ift_lightning.modeling.loading import load_base_model, load_tokenizer
    from ift_lightning.training.run_record import read_run_record

    record = read_run_record(run)
    trained = next((run / name for name in ("adapter", "model") if (run / name).is_dir()), None)
    if trained is None:
        raise UserError(
            f"{run} has no weights to export (its status is {record.get('status')}); "
            "finish it with resume=true"
        )
    target = output or run / ("merged" if merge else "export")
    if target.exists():
        raise UserError(f"{target} exists already; choose another folder with output=FOLDER")
    if not merge or trained.name == "model":
        shutil.copytree(trained, target)
        return target
    base = record["model"]
    tokenizer = load_tokenizer(str(trained))
    model = load_base_model(base["path"], revision=base["revision"], vocabulary_size=len(tokenizer))
    merged = merge_adapter(load_adapter(model, trained))
    merged.config.use_cache = True
    merged.save_pretrained(str(target))
    tokenizer.save_pretrained(str(target))
    return target


if __name__ == "__main__":
    main()
