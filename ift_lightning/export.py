"""Export a run: ``python -m ift_lightning.export run=FOLDER [merge=true] [checkpoint=best]``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ift_lightning.config.entry import entry_point
from ift_lightning.config.schema import ExportConfig


@entry_point("export", ExportConfig)
def main(config: ExportConfig) -> None:
    """Write a run's adapter, or its merged weights, as a Hugging Face folder."""
    run = Path(config.run).expanduser()
    output = Path(config.output).expanduser() if config.output else None
    folder = export_run(run, merge=config.merge, output=output, checkpoint=config.checkpoint)
    print(f"exported to {folder}")


def export_run(
    run: Path, *, merge: bool, output: Path | None = None, checkpoint: str | None = None
) -> Path:
    """Write a run's weights to a folder of their own.

    Merging goes into base weights of full precision, whatever precision trained the adapter:
    merged into 4-bit weights, the adapter's effect would be rounded away.

    Args:
        run: Run folder.
        merge: Merge the adapter into the base weights.
        output: Folder to write, which must not exist yet; None for one inside the run.
        checkpoint: "best" or "last": take a checkpoint's weights. None takes those of the
            finished run, or of the best checkpoint there is where it has not finished.

    Raises:
        UserError: The run has no weights, its method cannot be merged, or the folder exists.
    """
    import shutil
    import tempfile

    from ift_lightning.errors import UserError
    from ift_lightning.training.run_record import read_run_record

    record = read_run_record(run)
    target = output or run / ("merged" if merge else "export")
    if target.exists():
        raise UserError(f"{target} exists already; choose another folder with output=FOLDER")
    trained = next((run / name for name in ("adapter", "model") if (run / name).is_dir()), None)
    if trained is None and checkpoint is None:
        names = [name for name in ("best", "last") if (run / f"checkpoints/{name}.ckpt").is_file()]
        if not names:
            raise UserError(
                f"{run} has no weights to export (its status is {record.get('status')}); "
                "finish it with resume=true"
            )
        checkpoint = names[0]
    if checkpoint is None:
        assert trained is not None
        if merge and trained.name == "adapter":
            _merge(trained, record["model"], target)
        else:
            shutil.copytree(trained, target)
        return target
    from ift_lightning.checkpoint_export import export_checkpoint

    with tempfile.TemporaryDirectory(dir=run) as name:
        part = Path(name) / "weights"
        export_checkpoint(run, checkpoint, part)
        if merge and (part / "adapter_config.json").is_file():
            _merge(part, record["model"], target)
        else:
            shutil.move(part, target)
    return target


def _merge(adapter: Path, base: dict[str, Any], target: Path) -> None:
    """Write the base weights with an adapter's change added."""
    from ift_lightning.modeling.adapters import load_adapter, merge_adapter
    from ift_lightning.modeling.loading import load_base_model, load_tokenizer

    tokenizer = load_tokenizer(str(adapter))
    model = load_base_model(base["path"], revision=base["revision"], vocabulary_size=len(tokenizer))
    merged = merge_adapter(load_adapter(model, adapter))
    merged.config.use_cache = True
    merged.save_pretrained(str(target))
    tokenizer.save_pretrained(str(target))


if __name__ == "__main__":
    main()
