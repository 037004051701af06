/* SPDX-License-Identifier: Apache-2.0
 * The CUDA module's table of kernels/grad/grad.h. */
#include "kernels/grad/grad_cuda.cuh"

const struct bk_grad_ops *bk_grad_cuda(void)
{
	static const struct bk_grad_ops ops = {
		sizeof(struct bk_grad_ops),
		"cuda",
		bk_grad_cuda_rmsnorm_back,
		bk_grad_cuda_head_norm_rope,
		bk_grad_cuda_head_norm_rope_back,
		bk_grad_cuda_attention_lse,
		bk_grad_cuda_attention_back,
		bk_grad_cuda_gate_back,
		bk_grad_cuda_softcap_back,
		bk_grad_cuda_kl_back,
		bk_grad_cuda_mse_back,
		bk_grad_cuda_fake_quant,
		bk_grad_cuda_fake_quant_back,
		bk_grad_cuda_codes_value,
		bk_grad_cuda_codes_back,
		bk_grad_cuda_fake_tokens,
		bk_grad_cuda_sign_step,
		bk_grad_cuda_adam_step,
		bk_grad_cuda_axpy,
		bk_grad_cuda_product,
	};

	return &ops;
}
