/* SPDX-License-Identifier: Apache-2.0
 * The CUDA run: its table, memory, and plain copies. Memory comes from the device's stream-ordered pool, so a release needs no waiting; what is handed
 * out is kept in a list, for the limit and for close. */
#include <stdio.h>
#include <stdlib.h>

#include "kernels/run/run_cuda.cuh"

static const char *error_text(int error)
{
	static __thread char text[96];

	if (error == BK_RUN_REFUSED)
		return "arguments outside the operation's contract";
	if (error == BK_RUN_NO_MEMORY)
		return "not enough GPU memory";
	if (error == BK_RUN_UNREADABLE)
		return "a mapped file could not be read any more";
	if (error == BK_RUN_NO_BLAS)
		return bk_blas_missing();
	if (error >= BK_BLAS_ERROR) {
		snprintf(text, sizeof(text), "cuBLASLt refused a product (status %d)", error - BK_BLAS_ERROR);
		return text;
	}
	return cudaGetErrorString((cudaError_t)error);
}

/* Errors after which the context gives nothing but errors. */
static bool is_lost(int error)
{
	switch (error) {
	case cudaErrorECCUncorrectable:
	case cudaErrorNvlinkUncorrectable:
	case cudaErrorDevicesUnavailable:
	case cudaErrorNoDevice:
	case cudaErrorHardwareStackError:
	case cudaErrorIllegalInstruction:
	case cudaErrorMisalignedAddress:
	case cudaErrorInvalidAddressSpace:
	case cudaErrorInvalidPc:
	case cudaErrorIllegalAddress:
	case cudaErrorLaunchTimeout:
	case cudaErrorLaunchFailure:
	case cudaErrorAssert:
	case cudaErrorContextIsDestroyed:
	case cudaErrorSystemNotReady:
	case cudaErrorMpsConnectionFailed:
	case cudaErrorMpsServerNotReady:
	case cudaErrorMpsClientTerminated:
	case cudaErrorExternalDevice:
	case cudaErrorUnknown:
		return true;
	default:
		return false;
	}
}

static bool is_no_memory(int error)
{
	return error == BK_RUN_NO_MEMORY || error == cudaErrorMemoryAllocation || error == BK_BLAS_ERROR + 3 /* CUBLAS_STATUS_ALLOC_FAILED */;
}

/* ---- memory ---- */

static int grow(void **list, size_t *cap, size_t n, size_t size)
{
	void *more;

	if (n < *cap)
		return 0;
	more = realloc(*list, (*cap ? 2 * *cap : 64) * size);
	if (!more)
		return BK_RUN_NO_MEMORY;
	*list = more;
	*cap = *cap ? 2 * *cap : 64;
	return 0;
}

static cudaError_t pool_alloc(struct bk_run *r, void **p, size_t bytes)
{
	const cudaError_t e = r->pools ? cudaMallocFromPoolAsync(p, bytes, r->pool, r->stream) : cudaMalloc(p, bytes);

	if (e != cudaSuccess)
		(void)cudaGetLastError();
	return e;
}

static int run_alloc(struct bk_run *r, void **out, size_t bytes)
{
	void *p = NULL;
	cudaError_t e;
	const size_t asked = bytes ? (bytes + 255) / 256 * 256 : 256;

	if (bytes > SIZE_MAX - 255 || (r->limit && (asked > r->limit || r->used > r->limit - asked)))
		return BK_RUN_NO_MEMORY;
	if (grow((void **)&r->allocs, &r->cap_allocs, r->n_allocs, sizeof(*r->allocs)))
		return BK_RUN_NO_MEMORY;
	e = pool_alloc(r, &p, asked);
	if (e == cudaErrorMemoryAllocation && r->pools) { /* what was released may still lie in the pool, in pieces */
		e = cudaStreamSynchronize(r->stream);
		if (e == cudaSuccess)
			e = cudaMemPoolTrimTo(r->pool, 0);
		if (e == cudaSuccess)
			e = pool_alloc(r, &p, asked);
	}
	if (e != cudaSuccess)
		return e == cudaErrorMemoryAllocation ? BK_RUN_NO_MEMORY : (int)e;
	r->allocs[r->n_allocs++] = (struct bk_alloc){ p, asked };
	r->used += asked;
	*out = p;
	return 0;
}

static void give_back(struct bk_run *r, void *p)
{
	if (r->pools)
		(void)cudaFreeAsync(p, r->stream);
	else
		(void)cudaFree(p);
	(void)cudaGetLastError();
}

static void run_release(struct bk_run *r, void *p)
{
	size_t i = r->n_allocs;

	while (p && i-- > 0)
		if (r->allocs[i].p == p) {
			if (bk_transfer_meets(r, p, (size_t)r->allocs[i].bytes))
				(void)bk_run_join(r);
			r->used -= r->allocs[i].bytes;
			r->allocs[i] = r->allocs[--r->n_allocs];
			give_back(r, p);
			return;
		}
}

int bk_run_scratch(struct bk_run *r, void **out, size_t bytes)
{
	int e = 0;

	if (bytes > r->scratch_bytes) {
		run_release(r, r->scratch);
		r->scratch = NULL;
		r->scratch_bytes = 0;
		e = run_alloc(r, &r->scratch, bytes);
		if (!e)
			r->scratch_bytes = bytes;
	}
	*out = r->scratch;
	return e;
}

static int run_memory(struct bk_run *r, uint64_t *used, uint64_t *available)
{
	size_t free_bytes = 0, total_bytes = 0;
	cudaError_t e = cudaMemGetInfo(&free_bytes, &total_bytes);
	uint64_t reserved = 0, taken = 0, have;

	if (e == cudaSuccess && r->pools)
		e = cudaMemPoolGetAttribute(r->pool, cudaMemPoolAttrReservedMemCurrent, &reserved);
	if (e == cudaSuccess && r->pools)
		e = cudaMemPoolGetAttribute(r->pool, cudaMemPoolAttrUsedMemCurrent, &taken);
	if (e != cudaSuccess)
		return (int)e;
	have = free_bytes + (reserved > taken ? reserved - taken : 0);
	if (r->limit && (r->limit < r->used || have > r->limit - r->used))
		have = r->limit < r->used ? 0 : r->limit - r->used;
	*used = r->used;
	*available = have;
	return 0;
}

static int run_host_alloc(struct bk_run *r, void **out, size_t bytes)
{
	cudaError_t e;
	void *p = NULL;

	if (grow((void **)&r->hosts, &r->cap_hosts, r->n_hosts, sizeof(*r->hosts)))
		return BK_RUN_NO_MEMORY;
	e = cudaHostAlloc(&p, bytes ? bytes : 1, cudaHostAllocPortable);
	if (e != cudaSuccess) {
		(void)cudaGetLastError();
		return e == cudaErrorMemoryAllocation ? BK_RUN_NO_MEMORY : (int)e;
	}
	r->hosts[r->n_hosts++] = p;
	*out = p;
	return 0;
}

static void run_host_release(struct bk_run *r, void *p)
{
	for (size_t i = r->n_hosts; p && i-- > 0;)
		if (r->hosts[i] == p) {
			r->hosts[i] = r->hosts[--r->n_hosts];
			(void)bk_run_upload_join(r);
			(void)cudaStreamSynchronize(r->stream);
			(void)bk_run_download_join(r);
			(void)cudaFreeHost(p);
			(void)cudaGetLastError();
			return;
		}
}

/* ---- open and close ---- */

static void run_close(struct bk_run *r)
{
	if (!r)
		return;
	(void)cudaSetDevice(r->device);
	bk_transfer_close(r);
	if (r->stream)
		(void)cudaStreamSynchronize(r->stream);
	bk_blas_close(r);
	for (size_t i = 0; i < r->n_allocs; i++)
		give_back(r, r->allocs[i].p);
	for (size_t i = 0; i < r->n_hosts; i++)
		(void)cudaFreeHost(r->hosts[i]);
	if (r->stream) {
		(void)cudaStreamSynchronize(r->stream);
		(void)cudaStreamDestroy(r->stream);
	}
	if (r->pool)
		(void)cudaMemPoolDestroy(r->pool);
	(void)cudaGetLastError();
	free(r->allocs);
	free(r->hosts);
	free(r);
}

/* A pool of its own, which keeps what is given back: then an allocation in a loop costs nothing. */
static cudaError_t pool_open(struct bk_run *r)
{
	struct cudaMemPoolProps props = {};
	uint64_t keep = UINT64_MAX;
	int have = 0;
	cudaError_t e = cudaDeviceGetAttribute(&have, cudaDevAttrMemoryPoolsSupported, r->device);

	if (e != cudaSuccess || !have)
		return e;
	props.allocType = cudaMemAllocationTypePinned;
	props.location.type = cudaMemLocationTypeDevice;
	props.location.id = r->device;
	e = cudaMemPoolCreate(&r->pool, &props);
	if (e == cudaSuccess)
		e = cudaMemPoolSetAttribute(r->pool, cudaMemPoolAttrReleaseThreshold, &keep);
	r->pools = e == cudaSuccess;
	return e;
}

static int run_open(struct bk_run **out, const struct bk_run_options *o)
{
	struct bk_run *r = (struct bk_run *)calloc(1, sizeof(*r));
	int major = 0, minor = 0, error;
	cudaError_t e;

	if (!r)
		return BK_RUN_NO_MEMORY;
	r->device = o->device;
	r->limit = o->memory_limit;
	e = cudaSetDevice(o->device);
	if (e == cudaSuccess)
		e = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, o->device);
	if (e == cudaSuccess)
		e = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, o->device);
	if (e == cudaSuccess)
		e = cudaDeviceGetAttribute(&r->n_sm, cudaDevAttrMultiProcessorCount, o->device);
	if (e == cudaSuccess)
		e = cudaStreamCreateWithFlags(&r->stream, cudaStreamNonBlocking);
	if (e == cudaSuccess)
		e = pool_open(r);
	r->capability = 10 * major + minor;
	error = (int)e;
	if (e != cudaSuccess)
		(void)cudaGetLastError();
	if (!error)
		error = bk_transfer_open(r, o);
	if (!error)
		error = bk_blas_open(r);
	if (error) {
		run_close(r);
		return error == cudaErrorMemoryAllocation ? BK_RUN_NO_MEMORY : error;
	}
	*out = r;
	return 0;
}

/* ---- copies ---- */

static int answer(cudaError_t e)
{
	if (e != cudaSuccess)
		(void)cudaGetLastError();
	return (int)e;
}

static int run_put(struct bk_run *r, void *dst, const void *src, size_t bytes)
{
	cudaError_t e;

	if (!bytes)
		return 0;
	e = cudaMemcpyAsync(dst, src, bytes, cudaMemcpyHostToDevice, r->stream);
	if (e == cudaSuccess && bk_is_pinned(src)) /* then the call has only queued the copy; else the bytes are taken */
		e = cudaStreamSynchronize(r->stream);
	return answer(e);
}

static int run_get(struct bk_run *r, void *dst, const void *src, size_t bytes)
{
	cudaError_t e = bytes ? cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, r->stream) : cudaSuccess;

	if (e == cudaSuccess)
		e = cudaStreamSynchronize(r->stream);
	return answer(e);
}

static int run_copy(struct bk_run *r, void *dst, const void *src, size_t bytes)
{
	return bytes ? answer(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, r->stream)) : 0;
}

static int run_zero(struct bk_run *r, void *dst, size_t bytes) { return bytes ? answer(cudaMemsetAsync(dst, 0, bytes, r->stream)) : 0; }
static int run_wait(struct bk_run *r) { return answer(cudaStreamSynchronize(r->stream)); }

const struct bk_run_ops *bk_run_cuda(void)
{
	static struct bk_run_ops ops;

	ops.version = BK_RUN_VERSION;
	ops.size = sizeof(ops);
	ops.name = "cuda";
	ops.unified = false;
	ops.error_text = error_text;
	ops.is_lost = is_lost;
	ops.is_no_memory = is_no_memory;
	ops.open = run_open;
	ops.close = run_close;
	ops.alloc = run_alloc;
	ops.release = run_release;
	ops.memory = run_memory;
	ops.host_alloc = run_host_alloc;
	ops.host_release = run_host_release;
	ops.put = run_put;
	ops.get = run_get;
	ops.copy = run_copy;
	ops.zero = run_zero;
	ops.wait = run_wait;
	ops.upload = bk_run_upload;
	ops.upload_join = bk_run_upload_join;
	ops.download = bk_run_download;
	ops.download_join = bk_run_download_join;
	ops.gemm = bk_run_gemm;
	ops.quant_tokens = bk_run_quant_tokens;
	ops.quant_static = bk_run_quant_static;
	ops.gemm_codes = bk_run_gemm_codes;
	ops.quant_groups = bk_run_quant_groups;
	ops.gemm_groups = bk_run_gemm_groups;
	ops.round_inputs = bk_run_round_inputs;
	ops.gather = bk_run_gather;
	ops.convert = bk_run_convert;
	ops.rmsnorm = bk_run_rmsnorm;
	ops.add = bk_run_add;
	ops.add_rmsnorm = bk_run_add_rmsnorm;
	ops.rmsnorm_add = bk_run_rmsnorm_add;
	ops.head_norm_rope = bk_run_head_norm_rope;
	ops.attention = bk_run_attention;
	ops.gate = bk_run_gate;
	ops.softcap = bk_run_softcap;
	ops.input_stats = bk_run_input_stats;
	ops.hessian = bk_run_hessian;
	ops.diff_sums = bk_run_diff_sums;
	ops.dot = bk_run_dot;
	ops.mirror = bk_run_mirror;
	ops.row_loss = bk_run_row_loss;
	ops.row_kl = bk_run_row_kl;
	return &ops;
}
