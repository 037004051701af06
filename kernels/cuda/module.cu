/* SPDX-License-Identifier: Apache-2.0
 * The CUDA module's one symbol: the table of kernels/cuda/cuda_ops.h. The runtime is linked in, so the only thing needed from the machine is a
 * driver; the program opens this file only after it has seen one. */
#include <string.h>

#include "kernels/cuda/launch.cuh"

static const char *error_text(int error)
{
	return error == BK_CUDA_REFUSED ? "arguments outside the kernel's contract" : cudaGetErrorString((cudaError_t)error);
}

/* Hands an outcome on and forgets it: the runtime would report it again behind the next launch. */
static int answer(cudaError_t e)
{
	if (e != cudaSuccess)
		(void)cudaGetLastError();
	return (int)e;
}

static int device_count(int *n)
{
	int found = 0;
	const cudaError_t e = cudaGetDeviceCount(&found);

	if (e == cudaSuccess)
		*n = found;
	return answer(e);
}

static int use(int i) { return answer(cudaSetDevice(i)); }

static int device(int i, struct bk_cuda_device *out)
{
	struct cudaDeviceProp p;
	size_t free_bytes, total_bytes;
	int before = 0;
	cudaError_t e = cudaGetDeviceProperties(&p, i);

	if (e == cudaSuccess)
		e = cudaGetDevice(&before);
	if (e == cudaSuccess)
		e = cudaSetDevice(i);
	if (e == cudaSuccess)
		e = cudaMemGetInfo(&free_bytes, &total_bytes);
	(void)cudaSetDevice(before);
	if (e != cudaSuccess)
		return answer(e);
	memset(out, 0, sizeof(*out));
	strncpy(out->name, p.name, sizeof(out->name) - 1);
	out->total_bytes = total_bytes;
	out->free_bytes = free_bytes;
	out->capability = 10 * p.major + p.minor;
	out->n_processors = p.multiProcessorCount;
	return 0;
}

static int alloc(void **d_out, size_t bytes)
{
	void *d = NULL;
	const cudaError_t e = cudaMalloc(&d, bytes);

	if (e == cudaSuccess)
		*d_out = d;
	return answer(e);
}

static int release(void *d) { return answer(cudaFree(d)); }

static int stream_new(void **out)
{
	cudaStream_t s;
	const cudaError_t e = cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking);

	if (e == cudaSuccess)
		*out = s;
	return answer(e);
}

static int stream_free(void *stream) { return answer(cudaStreamDestroy((cudaStream_t)stream)); }
static int wait(void *stream) { return answer(cudaStreamSynchronize((cudaStream_t)stream)); }

static int copy_in(void *d_dst, const void *src, size_t bytes, void *stream)
{
	return answer(cudaMemcpyAsync(d_dst, src, bytes, cudaMemcpyHostToDevice, (cudaStream_t)stream));
}

static int copy_out(void *dst, const void *d_src, size_t bytes, void *stream)
{
	return answer(cudaMemcpyAsync(dst, d_src, bytes, cudaMemcpyDeviceToHost, (cudaStream_t)stream));
}

extern "C" __attribute__((visibility("default"))) const struct bk_cuda_ops *bk_cuda_module(void)
{
	static const struct bk_cuda_ops ops = {
		BK_CUDA_VERSION, sizeof(struct bk_cuda_ops), error_text, device_count, device, use, alloc, release,
		stream_new, stream_free, wait, copy_in, copy_out, bk_cuda_encode, bk_cuda_moments_work_bytes(), bk_cuda_moments,
		bk_run_cuda(), bk_solve_cuda(), bk_grad_cuda(),
	};

	return &ops;
}
