//! The first weights of a run: those of a trained model, of another program, or drawn.

use data::{ClassAgreement, ClassMap, Dataset, listed};
use model::{Head, LoadReport, Loading, Network};

use crate::config::{KeepHead, TrainConfig};
use crate::device::processor;
use crate::run::record::KeptHead;
use crate::start::configure::Start;
use crate::start::error::StartError;
use crate::start::weights::ForeignWeights;
use crate::task::Splits;

/// A network with weights from elsewhere.
pub struct InitialWeights {
    /// The network.
    pub network: Network,
    /// What was taken; nothing of a start from scratch.
    pub report: Option<LoadReport>,
    /// What became of the classes of a head that was kept.
    pub head: Option<KeptHead>,
}

/// The network with the weights that it starts from.
///
/// # Errors
/// When the weights do not fit the network, its images or its classes.
pub fn initial_weights(
    network: Network,
    start: Start,
    config: &TrainConfig,
    data: &Splits,
) -> Result<InitialWeights, StartError> {
    let initial = match start {
        Start::Weights(model) => start_weights(network, &model, config, data)?,
        Start::Foreign(weights) => foreign_weights(network, &weights, config, data)?,
        Start::Scratch | Start::Resume(_) => return Ok(InitialWeights { network, report: None, head: None }),
    };
    initial.report.iter().for_each(say_loaded);
    Ok(initial)
}

/// The starting model's tensors in the new network: all but the head, and of the head, when it is kept, the classes
/// that the data has too.
fn start_weights(
    network: Network,
    model: &model::Model,
    config: &TrainConfig,
    data: &Splits,
) -> Result<InitialWeights, StartError> {
    let (expected, input) = (model.metadata.preprocessing.input, data.pair.preprocessing.input);
    if expected != input {
        return Err(StartError::Input {
            dataset: config.data.dataset.clone(),
            found: input.to_string(),
            expected: expected.to_string(),
        });
    }
    let (found, expected) = (model.metadata.task.name(), data.task());
    if found != expected && keep_head(config) == KeepHead::Yes {
        return Err(StartError::HeadTask { found, expected });
    }
    warn_of_known_images(model, data);
    let keeps = found == expected && keeps_head(config, &model.metadata.classes, data);
    let classes = keeps.then_some(&model.metadata.classes[..]);
    taken_from(network, &model.network, classes, &data.training)
}

/// Says it where the starting model has learned images that the run is to be judged by, as `evaluate` says it of a model.
fn warn_of_known_images(model: &model::Model, data: &Splits) {
    let Some(seen) = &model.metadata.seen else { return };
    let known = |images: &Dataset, indices: &[u32]| {
        let content = indices.iter().filter_map(|&index| images.content.get(index as usize));
        content.filter(|content| seen.trained_on(content.bytes())).count()
    };
    let test: Vec<u32> = (0..data.pair.test.len() as u32).collect();
    for (part, images, indices) in
        [("test", &data.pair.test, &test[..]), ("validation", &*data.training, &data.valid[..])]
    {
        let count = known(images, indices);
        if count > 0 {
            tracing::warn!(
                "the starting model was trained on {count} of these {} {part} images: on new ones the result is hardly as \
                 good",
                indices.len()
            );
        }
    }
}

/// The tensors of `donor` but for its head; of that, where its classes are given, those that the data has too.
fn taken_from(
    network: Network,
    donor: &Network,
    classes: Option<&[String]>,
    data: &Dataset,
) -> Result<InitialWeights, StartError> {
    let is_head = |name: &str| name.starts_with("head.");
    let loading = |name: &str| if is_head(name) { Loading::Skip } else { Loading::Required };
    let (network, mut report) = model::load_partial(network, &model::named_tensors(donor), loading)?;
    let Some(classes) = classes else {
        return Ok(InitialWeights { network, report: Some(report), head: None });
    };
    let map = ClassMap::new(&data.class_names, classes);
    let ClassAgreement { mapped: kept, absent: dropped, unknown: new } = map.agreement().clone();
    if kept.is_empty() {
        return Err(StartError::NoSharedClass { found: listed(&data.class_names), known: listed(classes) });
    }
    let from: Vec<Option<usize>> =
        map.numbers().iter().map(|number| number.map(|number| number as usize)).collect();
    let heads = Head::of(&network).zip(Head::of(donor));
    let head =
        heads.and_then(|(own, donor)| own.with_classes_of(&donor, &from)).ok_or(StartError::HeadForm)?;
    let network = head.put_on(network)?;
    let (taken, skipped) = std::mem::take(&mut report.skipped).into_iter().partition(|name| is_head(name));
    report.skipped = skipped;
    report.loaded.extend::<Vec<String>>(taken);
    report.loaded.sort();
    if data.class_names != classes {
        let named = |what: &str, names: &[String]| match names {
            [] => String::new(),
            names => format!("; {what}: {}", listed(names)),
        };
        tracing::info!(
            "the head is kept class by class: {}{}{}",
            listed(&kept),
            named("new, they begin anew", &new),
            named("left out, since the data does not have them", &dropped)
        );
    }
    Ok(InitialWeights { network, report: Some(report), head: Some(KeptHead { kept, new, dropped }) })
}

/// A network with the weights that another program trained.
fn foreign_weights(
    network: Network,
    weights: &ForeignWeights,
    config: &TrainConfig,
    data: &Splits,
) -> Result<InitialWeights, StartError> {
    let input = data.pair.preprocessing.input;
    let lenient = config.finetune.as_ref().is_some_and(|finetune| finetune.allow_mismatch);
    let required = if lenient { Loading::Optional } else { Loading::Required };
    // A file that names its classes is one of ours in another form.
    if let Some(classes) = weights.class_names()
        && keeps_head(config, &classes, data)
    {
        let donor = config.network.init(input, classes.len(), config.seed, &processor())?;
        let loading = |name: &str| if name.starts_with("head.") { Loading::Required } else { required };
        let (donor, report) = weights.load(donor, &config.network, input, classes.len(), loading)?;
        let started = taken_from(network, &donor, Some(&classes), &data.training)?;
        return Ok(InitialWeights { report: Some(report), ..started });
    }
    let loading = |name: &str| match keep_head(config) {
        _ if !name.starts_with("head.") => required,
        KeepHead::Yes => required,
        KeepHead::Fitting => Loading::Optional,
        KeepHead::No => Loading::Skip,
    };
    let (network, report) = weights.load(network, &config.network, input, data.classes(), loading)?;
    if report.loaded.iter().any(|name| name.starts_with("head.")) {
        tracing::warn!(
            "the file does not name its classes: they are taken to be those of the data in this order: {}",
            listed(&data.training.class_names)
        );
    }
    Ok(InitialWeights { network, report: Some(report), head: None })
}

fn keep_head(config: &TrainConfig) -> KeepHead {
    config.finetune.as_ref().map_or(KeepHead::No, |finetune| finetune.keep_head)
}

/// Whether a head of these classes is taken over.
fn keeps_head(config: &TrainConfig, classes: &[String], data: &Splits) -> bool {
    match keep_head(config) {
        KeepHead::No => false,
        KeepHead::Yes => true,
        KeepHead::Fitting => data.training.class_names.iter().any(|name| classes.contains(name)),
    }
}

/// What was taken and what is new.
fn say_loaded(report: &LoadReport) {
    let mismatched = report.mismatched.iter().map(|mismatch| &mismatch.name);
    let new: Vec<&str> =
        report.skipped.iter().chain(&report.missing).chain(mismatched).map(String::as_str).collect();
    let taken = report.loaded.len();
    if new.is_empty() {
        tracing::info!("{taken} tensors taken from the starting model, all there are");
    } else {
        tracing::info!(
            "{taken} tensors taken from the starting model, {} new ({})",
            new.len(),
            new.join(", ")
        );
    }
}
