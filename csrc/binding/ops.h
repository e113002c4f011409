// The functions behind the schemas of digan/ops/*.py, in the order of their arguments there.

#pragma once

#include "binding/torch.h"

namespace digan {

Tensor fourier_features(const Tensor& freq,   // [B, F, 2]
                        const Tensor& phase,  // [B, T, F]
                        const Tensor& y,      // [H]
                        const Tensor& x,      // [W]
                        ScalarType dtype);    // -> [B, T, H, W, 2F]

std::tuple<Tensor, Tensor, Tensor, Tensor> fourier_features_backward(
    const Tensor& grad,  // [B, T, H, W, 2F]
    const Tensor& freq,
    const Tensor& phase,
    const Tensor& y,
    const Tensor& x);  // -> freq, phase, y, x

Tensor fourier_features_at(const Tensor& freq,    // [B, F, d]
                           const Tensor& phase,   // [B, F]
                           const Tensor& coords,  // [B, N, d]
                           ScalarType dtype);     // -> [B, N, 2F]

std::tuple<Tensor, Tensor, Tensor> fourier_features_at_backward(
    const Tensor& grad,  // [B, N, 2F]
    const Tensor& freq,
    const Tensor& phase,
    const Tensor& coords);  // -> freq, phase, coords

Tensor factorized_modulation(const Tensor& weight,  // [O, I]
                             const Tensor& left,    // [B, O, R]
                             const Tensor& right,   // [B, R, I]
                             bool demodulate);      // -> [B, O, I]

std::tuple<Tensor, Tensor, Tensor> factorized_modulation_backward(
    const Tensor& grad,  // [B, O, I]
    const Tensor& weight,
    const Tensor& left,
    const Tensor& right,
    bool demodulate);  // -> weight, left, right

std::tuple<Tensor, Tensor> modulated_linear(const Tensor& x,          // [B, P, I]
                                            const Tensor& weight,     // [B, O, I]
                                            const MaybeTensor& bias,  // [O]
                                            const std::string& activation,
                                            double alpha,
                                            double gain,
                                            const std::optional<double>& clamp,
                                            bool keep_pre_activation,
                                            bool tf32);  // -> [B, P, O], pre-activation

std::tuple<Tensor, Tensor, Tensor> modulated_linear_backward(const Tensor& grad,  // [B, P, O]
                                                             const Tensor& x,
                                                             const Tensor& weight,
                                                             const MaybeTensor& bias,
                                                             const MaybeTensor& z,
                                                             const MaybeTensor& y,
                                                             const std::string& activation,
                                                             double alpha,
                                                             double gain,
                                                             const std::optional<double>& clamp,
                                                             bool tf32);  // -> x, weight, bias

std::tuple<Tensor, Tensor> coord_linear(const Tensor& freq,       // [B, F, 2]
                                        const Tensor& phase,      // [B, T, F]
                                        const Tensor& y,          // [H]
                                        const Tensor& x,          // [W]
                                        const Tensor& weight,     // [B, O, 2F]
                                        const MaybeTensor& bias,  // [O]
                                        const MaybeTensor& skip,  // [B, T, H/2, W/2, O]
                                        const std::string& activation,
                                        double alpha,
                                        double gain,
                                        const std::optional<double>& clamp,
                                        bool keep_pre_activation,
                                        bool tf32);  // -> [B, T, H, W, O], pre-activation

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> coord_linear_backward(
    const Tensor& grad,  // [B, T, H, W, O]
    const Tensor& freq,
    const Tensor& phase,
    const Tensor& y,
    const Tensor& x,
    const Tensor& weight,
    const MaybeTensor& bias,
    const MaybeTensor& skip,
    const MaybeTensor& z,
    const MaybeTensor& out,
    const std::string& activation,
    double alpha,
    double gain,
    const std::optional<double>& clamp,
    bool tf32);  // -> freq, phase, y, x, weight, bias, skip

std::tuple<Tensor, Tensor> coord_chain(const Tensor& freq,         // [B, F, 2]
                                       const Tensor& phase,        // [B, T, F]
                                       const Tensor& y,            // [H]
                                       const Tensor& x,            // [W]
                                       const Tensor& weight,       // [B, C, 2F]
                                       const Tensor& hidden,       // [B, L, C, C]
                                       const Tensor& bias,         // [L + 1, C]
                                       const Tensor& rgb_weight,   // [B, R, 3, C]
                                       const Tensor& rgb_bias,     // [R, 3]
                                       const MaybeTensor& skip,    // [B, T, H/2, W/2, C]
                                       const MaybeTensor& image,   // [B, T, h, w, 3]
                                       const MaybeTensor& onward,  // [B, O, C]
                                       const std::vector<int64_t>& rgb_layers,
                                       double alpha,
                                       const std::optional<double>& clamp);
// -> [B, T, H, W, 3], [B, T, H, W, O]

Tensor bias_act(const Tensor& x,
                const MaybeTensor& bias,  // [C]
                const std::string& activation,
                double alpha,
                double gain,
                const std::optional<double>& clamp,
                int64_t dim);  // -> x's shape and strides

std::tuple<Tensor, Tensor> bias_act_backward(const Tensor& grad,
                                             const MaybeTensor& x,
                                             const MaybeTensor& bias,
                                             const MaybeTensor& out,
                                             const std::string& activation,
                                             double alpha,
                                             double gain,
                                             const std::optional<double>& clamp,
                                             int64_t dim);  // -> x, bias

Tensor fir_resample(const Tensor& x,            // [N, C, H, W]
                    const MaybeTensor& filter,  // [K] or [Ky, Kx]
                    const std::vector<int64_t>& up,
                    const std::vector<int64_t>& down,
                    const std::vector<int64_t>& padding,
                    bool flip_filter,
                    double gain);

Tensor frames_to_uint8(const Tensor& frames);  // any shape -> uint8 of the same

}  // namespace digan
