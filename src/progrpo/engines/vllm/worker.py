"""The receiving end of the transfer of weights, in a worker of a vLLM server; imported by vLLM alone."""

from typing import Any

from progrpo.engines.vllm.transfer import InitInfo, UpdateInfo, Wire, received
from progrpo.engines.vllm.weights import repack_tied_head


def __getattr__(name: str) -> Any:
    """`GlooWeightTransferEngine`: made when vLLM asks for it, because its base class is vLLM's."""
    if name != "GlooWeightTransferEngine":
        raise AttributeError(name)
    from vllm.distributed.weight_transfer.base import WeightTransferEngine
    from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

    class GlooWeightTransferEngine(WeightTransferEngine):  # type: ignore[misc]
        """Loads what comes over the wire by vLLM's own loader, which knows names and fused layers."""

        init_info_cls = InitInfo
        update_info_cls = UpdateInfo
        _wire: Wire | None = None

        def init_transfer_engine(self, init_info: InitInfo) -> None:
            self.shutdown()
            layout = self.parallel_config
            replica = getattr(layout, "data_parallel_index", 0) or 0
            rank = init_info.first_rank + replica * layout.world_size + layout.rank
            wire = Wire(init_info.host, init_info.port, rank=rank, world=init_info.world, timeout_s=init_info.timeout_s)
            wire.meet()
            self._wire = wire

        def start_weight_update(self) -> None:
            initialize_layerwise_reload(self.model)

        def update_weights(self, update_info: dict[str, Any]) -> None:
            # The base class waits for an accelerator, which a CPU has not.
            self.receive_weights(self.parse_update_info(update_info))
            if self.device.type != "cpu":
                import torch

                torch.accelerator.synchronize()

        def receive_weights(self, update_info: UpdateInfo) -> None:
            if self._wire is None:
                raise RuntimeError("weights were announced before init_transfer_engine was called")
            self.model.load_weights(received(update_info, self._wire))

        def finish_weight_update(self) -> None:
            finalize_layerwise_reload(self.model, self.model_config)
            repack_tied_head(self.model)

        def shutdown(self) -> None:
            self._wire = None

    return GlooWeightTransferEngine
