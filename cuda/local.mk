# local.mk -- the GPU engine and the GPU trainer.
#
# SPDX-License-Identifier: MIT

cuda_sources = \
  cuda/batch/batch.cu \
  cuda/batch/batch_kernel.cu \
  cuda/batch/batch_pack.cu \
  cuda/batch/batch_plan.cu \
  cuda/common/device.cu \
  cuda/common/upload.cu \
  cuda/decode/decode.cu \
  cuda/decode/decode_kernel.cu \
  cuda/decode/decode_pack.cu \
  cuda/decode/decode_plan.cu \
  cuda/engine/cuda_engine.cu \
  cuda/engine/cuda_model.cu \
  cuda/engine/cuda_states.cu \
  cuda/float/float_engine.cu \
  cuda/float/float_model.cu \
  cuda/prefill/backlog.cu \
  cuda/prefill/call.cu \
  cuda/prefill/elementwise.cu \
  cuda/prefill/gemm_int8.cu \
  cuda/prefill/prefill.cu \
  cuda/prefill/prefill_open.cu \
  cuda/prefill/recording.cu \
  cuda/prefill/scan.cu \
  cuda/train/cuda_trainer.cu \
  cuda/train/nccl.cu \
  cuda/train/products.cu \
  cuda/train/replica.cu \
  cuda/train/stopwatch.cu \
  cuda/train/train_adamw.cu \
  cuda/train/train_conv.cu \
  cuda/train/train_dtbc.cu \
  cuda/train/train_layers.cu \
  cuda/train/train_loss.cu \
  cuda/train/train_mamba1.cu \
  cuda/train/train_memory.cu \
  cuda/train/train_muon.cu \
  cuda/train/train_norm.cu \
  cuda/train/train_rows.cu \
  cuda/train/train_scan.cu \
  cuda/train/train_scan_back.cu
cuda_headers = \
  cuda/batch/batch.cuh \
  cuda/batch/batch_block.cuh \
  cuda/batch/batch_conv.cuh \
  cuda/batch/batch_head.cuh \
  cuda/batch/batch_job.cuh \
  cuda/batch/batch_kernel.cuh \
  cuda/batch/batch_norm.cuh \
  cuda/batch/batch_pack.cuh \
  cuda/batch/batch_plan.cuh \
  cuda/batch/batch_projections.cuh \
  cuda/batch/batch_quantise.cuh \
  cuda/batch/batch_scan.cuh \
  cuda/batch/batch_weights.cuh \
  cuda/common/cost.cuh \
  cuda/common/device.cuh \
  cuda/common/exact_vector.cuh \
  cuda/common/exchange.cuh \
  cuda/common/float4.cuh \
  cuda/common/launch.cuh \
  cuda/common/ptx.cuh \
  cuda/common/reduce.cuh \
  cuda/common/tensor.cuh \
  cuda/common/upload.cuh \
  cuda/decode/decode.cuh \
  cuda/decode/decode_block.cuh \
  cuda/decode/decode_kernel.cuh \
  cuda/decode/decode_mixer.cuh \
  cuda/decode/decode_plan.cuh \
  cuda/decode/decode_product.cuh \
  cuda/decode/decode_state.cuh \
  cuda/decode/decode_vector.cuh \
  cuda/decode/sample.cuh \
  cuda/decode/weight_stream.cuh \
  cuda/engine/cuda_model.cuh \
  cuda/engine/cuda_states.cuh \
  cuda/float/float_kernels.cuh \
  cuda/float/float_model.cuh \
  cuda/prefill/backlog.cuh \
  cuda/prefill/call.cuh \
  cuda/prefill/prefill.cuh \
  cuda/prefill/prefill_batch.cuh \
  cuda/prefill/prefill_parts.cuh \
  cuda/prefill/recording.cuh \
  cuda/prefill/scan_feed.cuh \
  cuda/prefill/scan_recurrence.cuh \
  cuda/prefill/scan_shape.cuh \
  cuda/prefill/scan_tile.cuh \
  cuda/train/fast_math.cuh \
  cuda/train/mixer.cuh \
  cuda/train/nccl.cuh \
  cuda/train/number.cuh \
  cuda/train/products.cuh \
  cuda/train/replica.cuh \
  cuda/train/row_scale.cuh \
  cuda/train/stopwatch.cuh \
  cuda/train/train_adamw.cuh \
  cuda/train/train_layers.cuh \
  cuda/train/train_loss.cuh \
  cuda/train/train_mamba1.cuh \
  cuda/train/train_memory.cuh \
  cuda/train/train_muon.cuh \
  cuda/train/train_norm.cuh \
  cuda/train/train_rows.cuh \
  cuda/train/train_scan.cuh
if HAVE_CUDA
libmambyte_a_SOURCES += $(cuda_sources) $(cuda_headers)
# What nvcc says each object depends on, as automake has it for C.
-include $(cuda_sources:.cu=.d)
MOSTLYCLEANFILES = $(cuda_sources:.cu=.d)
endif
