"""Observations of bytes [height, width, channels] go through convolutions, all others through the MLP encoder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.algos.toy import ImageToy, Toy, environment_is
from tests.algos.trainers import cases, compiled, small_config

SHAPE = (12, 9, 2)
CONVOLUTIONS = dict(conv_channels=(3, 4), conv_kernels=(4, 2), conv_strides=(2, 1))
with_convolutions = cases("ppo_discrete", "a2c_discrete")


def trainer_on(env, module, **settings):
    with environment_is(env):
        return compiled(module.make_train(small_config(module, normalize_observations=False, **settings)))


def convolve(image, layer, stride):
    """relu of a convolution without padding, [B, H, W, C], spelt out."""
    kernel, bias = np.asarray(layer["kernel"]), np.asarray(layer["bias"])
    size = kernel.shape[0]
    rows, columns = ((n - size) // stride + 1 for n in image.shape[1:3])
    out = np.empty((image.shape[0], rows, columns, kernel.shape[3]))
    for i in range(rows):
        for j in range(columns):
            patch = image[:, i * stride : i * stride + size, j * stride : j * stride + size]
            out[:, i, j] = np.einsum("bhwc,hwcd->bd", patch, kernel) + bias
    return np.maximum(out, 0)


@with_convolutions
def test_bytes_are_scaled_and_convolved(case):
    """Values equal those of a trainer on vectors that is given the features computed by hand."""
    ours = trainer_on(ImageToy(SHAPE), case.module, **CONVOLUTIONS)
    state = ours.init(jax.random.key(0))
    images = state.stream.obs
    assert images.dtype == jnp.uint8 and images.shape == (4, *SHAPE)
    encoder = state.params["params"]["encoder"]
    features = np.asarray(images, np.float64) / 255
    for layer, stride in (("Conv_0", 2), ("Conv_1", 1)):
        features = convolve(features, encoder[layer], stride)
    features = features.reshape(4, -1)  # 5 x 3 -> 4 x 2, 4 channels

    plain = trainer_on(Toy(obs_size=features.shape[1], num_actions=3), case.module)
    rest = {"params": {name: value for name, value in state.params["params"].items() if name != "encoder"}}
    reset, key = jnp.ones(4, bool), jax.random.key(1)
    carry = ours.trainer.initial_carry(4)
    _, actions, values = ours.act(state, carry, images, reset, key)
    expected = plain.act(state.replace(params=rest), carry, jnp.asarray(features, jnp.float32), reset, key)
    np.testing.assert_allclose(values, expected[2], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(actions, expected[1])
    assert np.std(values) > 1e-3


@with_convolutions
def test_convolutions_are_trained(case):
    built = trainer_on(ImageToy(SHAPE), case.module, **CONVOLUTIONS)
    start = built.init(jax.random.key(0))
    state, metrics = built.update(start)
    assert np.isfinite(metrics["loss"]) and state.stream.obs.dtype == jnp.uint8
    for layer in ("Conv_0", "Conv_1"):
        before, after = (s.params["params"]["encoder"][layer]["kernel"] for s in (start, state))
        assert np.abs(after - before).max() > 1e-5


@pytest.mark.parametrize(
    "env", [ImageToy((4, 4, 1), jnp.float32), ImageToy((7,), jnp.uint8)], ids=["small floats", "vector"]
)
@with_convolutions
def test_other_observations_go_through_the_dense_encoder(case, env):
    trainer = trainer_on(env, case.module, **CONVOLUTIONS, encoder_widths=(5,)).trainer
    encoder = jax.eval_shape(trainer.init, jax.random.key(0)).params["params"]["encoder"]
    assert list(encoder) == ["Dense_0"]
    assert encoder["Dense_0"]["kernel"].shape == (np.prod(env.shape), 5)


@pytest.mark.parametrize("shape", [(3, 9, 1), (9, 3, 1), (5, 5, 1)])
@with_convolutions
def test_an_image_smaller_than_the_kernels_is_refused(case, shape):
    """The first kernel takes 4 pixels, and must leave 2 for the second."""
    with pytest.raises(ValueError, match=rf"conv_kernels=\(4, 2\): .* {shape[0]} x {shape[1]}"):
        trainer_on(ImageToy(shape), case.module, **CONVOLUTIONS)


@with_convolutions
def test_the_smallest_image_that_fits_is_taken(case):
    trainer = trainer_on(ImageToy((6, 6, 1)), case.module, **CONVOLUTIONS).trainer
    jax.eval_shape(trainer.init, jax.random.key(0))


@pytest.mark.parametrize("field", ["conv_kernels", "conv_strides"])
@pytest.mark.parametrize("sizes", [(4,), (4, 2, 1), (4, 0)])
@with_convolutions
def test_convolutions_of_unequal_number_are_refused(case, field, sizes):
    with pytest.raises(ValueError, match=field):
        small_config(case.module, **CONVOLUTIONS | {field: sizes})


@pytest.mark.parametrize(
    ("settings", "field"),
    [({"previous_action_reward": True}, "previous_action_reward"), ({"encoder_widths": (8,)}, "encoder_widths")],
)
@with_convolutions
def test_what_does_not_go_with_images_is_refused(case, settings, field):
    with pytest.raises(ValueError, match=field):
        trainer_on(ImageToy(SHAPE), case.module, **CONVOLUTIONS, **settings)
