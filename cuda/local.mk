# local.mk -- the GPU engine and the GPU trainer.
#
# SPDX-License-Identifier: MIT

cuda_sources = \
  cuda/batch/batch.cu \
  cuda/common/elementwise.cu \
  cuda/common/gemm_int8.cu \
  cuda/decode/decode.cu \
  cuda/decode/decode_plan.cu \
  cuda/engine/cuda_engine.cu \
  cuda/float/float_engine.cu \
  cuda/prefill/prefill.cu \
  cuda/prefill/scan.cu \
  cuda/train/cuda_trainer.cu \
  cuda/train/nccl.cu \
  cuda/train/train_conv.cu \
  cuda/train/train_gemm.cu \
  cuda/train/train_layers.cu \
  cuda/train/train_loss.cu \
  cuda/train/train_memory.cu \
  cuda/train/train_norm.cu \
  cuda/train/train_optimise.cu \
  cuda/train/train_rows.cu \
  cuda/train/train_scan.cu \
  cuda/train/train_scan_back.cu \
  cuda/train/train_time.cu
cuda_headers = \
  cuda/batch/batch.cuh \
  cuda/batch/batch_block.cuh \
  cuda/batch/batch_job.cuh \
  cuda/common/cost.cuh \
  cuda/common/device.cuh \
  cuda/common/exchange.cuh \
  cuda/common/kernels.cuh \
  cuda/common/tensor.cuh \
  cuda/decode/decode.cuh \
  cuda/decode/decode_block.cuh \
  cuda/decode/decode_layer.cuh \
  cuda/decode/decode_plan.cuh \
  cuda/decode/sample.cuh \
  cuda/decode/weight_stream.cuh \
  cuda/float/float_kernels.cuh \
  cuda/prefill/prefill.cuh \
  cuda/prefill/scan_tile.cuh \
  cuda/prefill/source.cuh \
  cuda/train/nccl.cuh \
  cuda/train/train_scan.cuh \
  cuda/train/trainer.cuh
if HAVE_CUDA
libmambyte_a_SOURCES += $(cuda_sources) $(cuda_headers)
# What nvcc says each object depends on, as automake has it for C.
-include $(cuda_sources:.cu=.d)
MOSTLYCLEANFILES = $(cuda_sources:.cu=.d)
endif
