"""ReLiT in numpy, a loop over steps and heads, reading the original's arrays by their names."""

import numpy as np

FACTORED = ("pp_relu", "pp_eluplus1")


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _width(core):
    return core.d_head * core.nu * (2 if core.kernel == "dpfp" else 1)


def _kernel_shapes(core, dense, d_in):
    """Of a kernel, by name; `dense` names its Dense where it is one."""
    if core.kernel in FACTORED:
        prefix = "ParameteredProjection_0"
        return {f"{prefix}/Dense_0": (d_in, core.d_head), f"{prefix}/Dense_1": (d_in, core.nu)}
    return {dense: (d_in, core.d_head * (1 if core.kernel == "dpfp" else core.nu))}


def _csop_shapes(core):
    d, factored = core.d_model, core.kernel in FACTORED
    shapes = _kernel_shapes(core, "Dense_0", d)
    i = 0 if factored else 1
    shapes[f"Dense_{i}"] = (d, core.d_head)
    if core.update_rule in ("projected_sigmoid", "keyvalue_gated"):
        shapes[f"Dense_{i + 1}"] = (d, core.d_head)
    if core.update_rule == "projected_sigmoid":
        gamma = f"ParameteredProjection_{int(factored)}"
        shapes |= {f"{gamma}/Dense_0": (d, core.d_head), f"{gamma}/Dense_1": (d, _width(core) // core.d_head)}
    if core.update_rule == "keyvalue_gated":
        shapes[f"Dense_{i + 2}"] = (d, _width(core))
    if core.update_rule in ("gated_peng", "delta"):
        shapes[f"Dense_{i + 1}"] = (d, 1)
    if core.update_rule == "delta":
        shapes[f"Dense_{i + 2}"] = (d, 1)
    return shapes


def shapes(core, input_width):
    """Shape of every array of the original's parameters."""
    d, heads = core.d_model, core.n_heads
    result = {"layer0/emb_layer/kernel": (input_width, d), "layer0/emb_layer/bias": (d,)}
    for i in range(core.n_layers):
        layer, attention = f"layer{i}", f"layer{i}/RLTAttentionLayer_0"
        for j in range(2):
            result |= {f"{layer}/LayerNorm_{j}/{name}": (d,) for name in ("scale", "bias")}
            gate = f"{layer}/GRUGatingUnit_{j}"
            result |= {f"{gate}/{name}/kernel": (d, d) for name in ("Wr", "Wz", "Wg", "Ur", "Uz", "Ug")}
            result[f"{gate}/bgp"] = (d,)
        plain = {f"{layer}/Dense_0": (d, core.d_ffc), f"{layer}/Dense_1": (core.d_ffc, d)}
        last = "Dense_1" if core.kernel in FACTORED else "Dense_2"
        plain[f"{attention}/{last}"] = (heads * core.d_head, d)
        for name, shape in plain.items():
            result |= {f"{name}/kernel": shape, f"{name}/bias": shape[1:]}
        per_head = {f"csop/{name}": shape for name, shape in _csop_shapes(core).items()}
        per_head |= {"Dense_0": (d, core.d_head)} | _kernel_shapes(core, "Dense_1", core.d_head)
        for name, shape in per_head.items():
            result[f"{attention}/{name}/kernel"] = (heads, *shape)
            result[f"{attention}/{name}/bias"] = (heads, shape[1])
        if core.update_rule == "mega":
            for name, width in (("beta", core.d_head), ("gamma", _width(core))):
                result[f"{attention}/csop/{name}"] = (heads, width)
                result[f"{attention}/csop/{name}_damp"] = (heads, width)
    return result


def apply(core, flat, inputs, resets):
    """inputs: [T, D]; resets: [T]. Returns outputs [T, d_model]."""
    d_head, width = core.d_head, _width(core)
    memory = np.zeros((core.n_layers, core.n_heads, d_head, width))
    norm = np.zeros((core.n_layers, core.n_heads, width))
    outputs = []
    for x, reset in zip(inputs, resets, strict=True):
        if reset:
            memory[:], norm[:] = 0, 0
        x = x @ flat["layer0/emb_layer/kernel"] + flat["layer0/emb_layer/bias"]
        for i in range(core.n_layers):

            def of(path, i=i):
                return flat[f"layer{i}/{path}"]

            def dense(path, x, h=..., i=i):
                return x @ flat[f"layer{i}/{path}/kernel"][h] + flat[f"layer{i}/{path}/bias"][h]

            normed = _layer_norm(of, "LayerNorm_0", x)
            heads = []
            for h in range(core.n_heads):
                heads.append(_head(core, of, dense, h, normed, memory[i], norm[i]))
            last = "Dense_1" if core.kernel in FACTORED else "Dense_2"
            attended = dense(f"RLTAttentionLayer_0/{last}", np.concatenate(heads))
            x = _gate(of, "GRUGatingUnit_0", x, np.maximum(attended, 0))
            hidden = np.maximum(dense("Dense_0", _layer_norm(of, "LayerNorm_1", x)), 0)
            x = _gate(of, "GRUGatingUnit_1", x, np.maximum(dense("Dense_1", hidden), 0))
        outputs.append(x)
    return np.stack(outputs)


def _features(core, dense, h, path, single, x):
    """phi(x); `single` names the kernel's Dense where it is one."""
    if core.kernel in FACTORED:
        a, b = (dense(f"{path}/ParameteredProjection_0/Dense_{j}", x, h) for j in range(2))
        act = (lambda z: np.maximum(z, 0)) if core.kernel == "pp_relu" else _elu_plus_one
        return np.outer(act(a), act(b)).ravel()
    y = dense(f"{path}/{single}", x, h)
    if core.kernel == "relu":
        return np.maximum(y, 0)
    if core.kernel == "eluplus1":
        return _elu_plus_one(y)
    u = np.concatenate([np.maximum(y, 0), np.maximum(-y, 0)])
    return np.concatenate([u * np.roll(u, j) for j in range(1, core.nu + 1)])


def _head(core, of, dense, h, x, memory, norm):
    """One head's step; memory [H, d_head, D] and norm [H, D] are changed in place."""
    top, csop = "RLTAttentionLayer_0", "RLTAttentionLayer_0/csop"
    factored = core.kernel in FACTORED
    first = 0 if factored else 1
    k = _features(core, dense, h, csop, "Dense_0", x)
    q = _features(core, dense, h, top, "Dense_1", dense(f"{top}/Dense_0", x, h))
    v = dense(f"{csop}/Dense_{first}", x, h)
    c, s = memory[h], norm[h]
    if core.update_rule == "mega":
        beta, beta_damp, gamma, gamma_damp = (
            _sigmoid(of(f"{csop}/{name}")[h]) for name in ("beta", "beta_damp", "gamma", "gamma_damp")
        )
        c = c * (1 - np.outer(beta, gamma) * np.outer(beta_damp, gamma_damp))
        c = c + np.outer(beta, gamma) * np.outer(v, k)
        s = s * (1 - gamma * gamma_damp) + gamma * k
    else:
        beta = _sigmoid(dense(f"{csop}/Dense_{first + 1}", x, h))
        if core.update_rule == "gated_peng":
            c = (1 - beta) * c + beta * np.outer(v, k)
            s = (1 - beta) * s + beta * k
        elif core.update_rule == "delta":
            gamma = _sigmoid(dense(f"{csop}/Dense_{first + 2}", x, h))
            k = k / np.linalg.norm(k) if k.any() else k
            q = q / (np.linalg.norm(q) + 1e-6)
            c = (1 - gamma) * c + gamma * beta * np.outer(v - c @ k, k)
            s = (1 - gamma) * s + gamma * beta * k
        else:
            if core.update_rule == "projected_sigmoid":
                gamma = f"{csop}/ParameteredProjection_{int(factored)}"
                a, b = (_sigmoid(dense(f"{gamma}/Dense_{j}", x, h)) for j in range(2))
                gamma = np.outer(a, b).ravel()
            else:
                gamma = _sigmoid(dense(f"{csop}/Dense_{first + 2}", x, h))
            c = (1 - np.outer(beta, gamma)) * c + np.outer(beta * v, gamma * k)
            s = (1 - gamma) * s + gamma * k
    memory[h], norm[h] = c, s
    return c @ q / (s @ q + 1e-10)


def _elu_plus_one(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0))) + 1


def _layer_norm(of, path, x):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-6) * of(f"{path}/scale") + of(f"{path}/bias")


def _gate(of, path, x, y):
    w = {name: of(f"{path}/{name}/kernel") for name in ("Wr", "Wz", "Wg", "Ur", "Uz", "Ug")}
    r = _sigmoid(y @ w["Wr"] + x @ w["Ur"])
    z = _sigmoid(y @ w["Wz"] + x @ w["Uz"] - of(f"{path}/bgp"))
    return (1 - z) * x + z * np.tanh(y @ w["Wg"] + (r * x) @ w["Ug"])
