import keras
import numpy as np
import pytest

from mobilevit_keras.training.average import ExponentialMovingAverage
from tests.training.fitting import RandomPipeline, SetEpoch, Watch, fit, small_model


class TestExponentialMovingAverage:
    def test_closed_form_over_every_weight_and_statistic(self):
        pipeline = RandomPipeline([4])
        model = small_model(keras.optimizers.SGD(0.1))
        seen = [model.get_weights()]
        watch = Watch()
        watch.on_train_batch_end = lambda batch, logs=None: seen.append(model.get_weights())
        average = ExponentialMovingAverage(0.3)
        fit(model, pipeline, [watch, average], 1)
        expected = seen[0]
        # 2/11, 3/12, then the decay that is asked for.
        for decay, weights in zip([2 / 11, 0.25, 0.3, 0.3], seen[1:], strict=True):
            pairs = zip(expected, weights, strict=True)
            expected = [decay * a + (1 - decay) * w for a, w in pairs]
        for found, value in zip(model.get_weights(), expected, strict=True):
            if found.dtype.kind == "f":
                np.testing.assert_allclose(found, value, atol=1e-6)
        moving = [w for w in model.weights if w.name == "moving_mean"][0].numpy()
        assert (moving != seen[-1][4]).any()

    def test_validation_runs_on_the_averages_and_training_goes_on_with_the_weights(self):
        pipeline = RandomPipeline([3])
        model = small_model(keras.optimizers.SGD(0.5))
        x = np.random.default_rng(0).random((8, 8, 8, 3), "float32")
        y = np.eye(3)[np.arange(8) % 3]
        average = ExponentialMovingAverage(0.9)
        history = fit(model, pipeline, [average], 1, validation_data=(x, y))
        # After training the model holds the averages, so its own loss is the validation's.
        loss = model.evaluate(x, y, verbose=0)[0]
        assert history.history["val_loss"][0] == pytest.approx(loss, rel=1e-5)

    def test_applied_puts_everything_back(self):
        model = small_model(keras.optimizers.SGD(0.5))
        average = ExponentialMovingAverage(0.9)
        average.set_model(model)
        model.layers[0].kernel.assign_add(np.ones((3, 3, 3, 4)))
        before = model.get_weights()
        with pytest.raises(RuntimeError), average.applied():
            assert (model.get_weights()[0] != before[0]).all()
            raise RuntimeError
        for a, b in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)

    @pytest.mark.parametrize("decay", [-0.1, 1.0])
    def test_bad_decay(self, decay):
        with pytest.raises(ValueError, match=f"Received: {decay}"):
            ExponentialMovingAverage(decay)

    def test_the_average_leaves_the_first_weights_behind_as_tensorflows_does(self):
        average = ExponentialMovingAverage(0.9995)
        decays = [average.decay_of(update) for update in (1, 2, 90, 17_989, 17_990, 10**6)]
        assert decays[:3] == [2 / 11, 3 / 12, 91 / 100]
        assert decays[3] < 0.9995 and decays[4:] == [0.9995, 0.9995]
        # What the initial weights still weigh after a hundred updates; 0.95 with the decay alone.
        assert np.prod([average.decay_of(update) for update in range(1, 101)]) < 1e-9

    def test_gradient_accumulation_averages_updates(self):
        pipeline = RandomPipeline([5])
        model = small_model(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2))
        seen = [model.get_weights()]
        watch = Watch()
        watch.on_train_batch_end = lambda batch, logs=None: seen.append(model.get_weights())
        average = ExponentialMovingAverage(0.9995)
        fit(model, pipeline, [watch, average], 1)
        expected = seen[0][0]
        for decay, weights in ((2 / 11, seen[2]), (0.25, seen[4])):
            expected = decay * expected + (1 - decay) * weights[0]
        np.testing.assert_allclose(average.averages[0], expected, atol=1e-6)

    def test_a_second_fit_goes_on_where_the_first_stopped(self):
        """Two epochs of one `fit`, and one epoch each of two: nothing differs."""
        results = []
        for parts in ([(0, 2)], [(0, 1), (1, 2)]):
            pipeline, watch = RandomPipeline([3, 4]), Watch()
            model = small_model(keras.optimizers.SGD(0.5))
            average = ExponentialMovingAverage(0.9)
            for first, end in parts:
                callbacks = [average, watch, SetEpoch(pipeline)]
                fit(model, pipeline, callbacks, end, initial_epoch=first)
            results.append((watch.losses, model.get_weights()))
        assert results[0][0] == results[1][0]
        for a, b in zip(results[0][1], results[1][1], strict=True):
            np.testing.assert_array_equal(a, b)

    def test_weights_that_are_set_between_two_fits_begin_a_new_average(self):
        pipeline = RandomPipeline([3])
        model = small_model(keras.optimizers.SGD(0.0))
        average = ExponentialMovingAverage(0.9)
        fit(model, pipeline, [average], 1)
        model.layers[0].kernel.assign(np.full((3, 3, 3, 4), 7.0))
        fit(model, pipeline, [average], 1)
        np.testing.assert_array_equal(model.layers[0].kernel, np.full((3, 3, 3, 4), 7.0))
        assert average.num_batches == 3

    def test_model_checkpoint_saves_the_weights_that_were_validated(self, tmp_path):
        pipeline = RandomPipeline([4, 4, 4])
        model = small_model(keras.optimizers.SGD(0.5))
        x = np.random.default_rng(0).random((8, 8, 8, 3), "float32")
        y = np.eye(3)[np.arange(8) % 3]
        best = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True)
        callbacks = [ExponentialMovingAverage(0.9), best, SetEpoch(pipeline)]
        history = fit(model, pipeline, callbacks, 3, validation_data=(x, y)).history
        saved = keras.models.load_model(tmp_path / "best.keras")
        loss = saved.evaluate(x, y, verbose=0)[0]
        assert loss == pytest.approx(min(history["val_loss"]), rel=1e-5)

    def test_an_error_in_validation_does_not_cost_the_trained_weights(self):
        class Fail(keras.callbacks.Callback):
            def on_test_batch_end(self, batch, logs=None):
                raise RuntimeError

        pipeline = RandomPipeline([3])
        model = small_model(keras.optimizers.SGD(0.5))
        x, y = np.zeros((4, 8, 8, 3), "float32"), np.eye(3)[[0, 1, 2, 0]]
        trained = []
        watch = Watch(3, lambda: trained.append(model.get_weights()))
        average = ExponentialMovingAverage(0.9)
        with pytest.raises(RuntimeError):
            fit(model, pipeline, [average, watch, Fail()], 1, validation_data=(x, y))
        watch = Watch()
        watch.on_epoch_begin = lambda epoch, logs=None: trained.append(model.get_weights())
        watch.on_train_batch_end = lambda batch, logs=None: None
        fit(model, pipeline, [average, watch], 1)
        for a, b in zip(*trained, strict=True):
            np.testing.assert_array_equal(a, b)
