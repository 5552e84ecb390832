//! From folders and lists of pictures to data sets.
//!
//! Longer than other files: what the room promises is tested on whole data sets, with one way to make them.

use std::io::Cursor;
use std::path::PathBuf;
use std::sync::Arc;

use burn::data::dataloader::DataLoader;
use burn::tensor::Device;
use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, Rgb};

use super::*;
use crate::dataset::{Copied, Sizes};
use crate::{BatchLoader, LoaderConfig, Sampler, load_with};

/// Empty files, for listing looks only at names.
pub(super) fn tree(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"").unwrap();
    }
    folder
}

/// A data set in a folder of its own, with a cache beside it.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// `count` pictures of each of two classes, of one size; class `red` is red, class `blue` blue.
    fn two_classes(count: usize, width: u32, height: u32) -> Self {
        let world = Self::new();
        for number in 0..count {
            world.put(&format!("red/{number}.png"), &color([255, 0, number as u8], width, height));
            world.put(&format!("blue/{number}.png"), &color([0, number as u8, 255], width, height));
        }
        world
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        let path = self.root().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn search(&self) -> Search {
        Search { cache_dir: Some(self.folder.path().join("cache")), ..Search::default() }
    }

    fn load(&self, options: &ImageOptions) -> Result<DatasetPair, DataError> {
        load_with(&self.root().display().to_string(), &self.search(), options)
    }

    fn fails(&self, options: &ImageOptions) -> String {
        self.load(options).unwrap_err().to_string()
    }
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn color(rgb: [u8; 3], width: u32, height: u32) -> Vec<u8> {
    encoded(&DynamicImage::ImageRgb8(ImageBuffer::from_pixel(width, height, Rgb(rgb))), ImageFormat::Png)
}

fn grey(value: u8, width: u32, height: u32) -> Vec<u8> {
    encoded(
        &DynamicImage::ImageLuma8(ImageBuffer::from_pixel(width, height, Luma([value]))),
        ImageFormat::Png,
    )
}

fn skip() -> ImageOptions {
    ImageOptions { on_bad_image: OnBadImage::Skip, ..ImageOptions::default() }
}

#[test]
fn class_folders_become_images_names_and_a_test_part() {
    let pair = World::two_classes(60, 10, 6).load(&ImageOptions::default()).unwrap();
    assert_eq!(pair.train.class_names, ["blue", "red"]);
    assert_eq!(pair.train.shape, InputShape::new(3, 6, 10));
    let (train, test) = (pair.train.class_counts(), pair.test.class_counts());
    assert_eq!([train[0] + test[0], train[1] + test[1]], [60, 60]);
    // 15 % of 60, within three deviations of a binomial distribution.
    assert!(test.iter().all(|count| (1..=17).contains(count)), "{test:?}");
    assert!(pair.test.units.iter().all(|unit| test_draw(unit) < 0.15));
    assert!(pair.train.units.iter().all(|unit| test_draw(unit) >= 0.15));
    for dataset in [&pair.train, &pair.test] {
        for index in 0..dataset.len() {
            let image = dataset.image(index);
            let red = dataset.labels[index] == 1;
            assert!(image[..60].iter().all(|&v| v == if red { 255 } else { 0 }));
            assert!(red || image[120..].iter().all(|&v| v == 255));
        }
    }
    // The share of the training images that is all red.
    let red = train[1] as f32 / (train[0] + train[1]) as f32;
    assert!((pair.preprocessing.mean[0] - red).abs() < 1e-6);
    assert_eq!(pair.preprocessing.fit, Fit::Crop { resize: 0 });
    assert_eq!(
        pair.pictures.unwrap().sizes,
        Sizes { smallest: [10, 6], median: [10, 6], largest: [10, 6], distinct: 1 }
    );
}

#[test]
fn the_size_of_the_input_follows_the_pictures_unless_it_is_given() {
    let shape = |world: &World, input: Option<&str>| {
        let options =
            ImageOptions { input: input.map(|text| text.parse().unwrap()), ..ImageOptions::default() };
        world.load(&options).unwrap().train.shape
    };
    let world = World::two_classes(4, 10, 6);
    assert_eq!(shape(&world, Some("5x7")), InputShape::new(3, 5, 7));
    assert_eq!(shape(&world, Some("1x5x7")), InputShape::new(1, 5, 7));
    world.put("red/other.png", &color([255, 0, 0], 11, 6));
    assert_eq!(shape(&world, None), InputShape::new(3, 64, 64), "two sizes");
    assert_eq!(shape(&World::two_classes(4, 65, 65), None), InputShape::new(3, 64, 64), "large");
    let world = World::new();
    for number in 0..4 {
        world.put(&format!("a/{number}.png"), &grey(10, 8, 8));
        world.put(&format!("b/{number}.png"), &grey(200, 8, 8));
    }
    assert_eq!(shape(&world, None), InputShape::new(1, 8, 8), "all grey");
    world.put("b/colour.png", &color([1, 2, 3], 8, 8));
    assert_eq!(shape(&world, None), InputShape::new(3, 8, 8), "one is coloured");
}

#[test]
fn the_second_run_decodes_nothing_until_something_changes() {
    let world = World::two_classes(10, 8, 8);
    let first = world.load(&ImageOptions::default()).unwrap();
    let again = world.load(&ImageOptions::default()).unwrap();
    assert_eq!((&again.train, &again.test, &again.sha256), (&first.train, &first.test, &first.sha256));
    let cached = |options: &ImageOptions| world.load(options).unwrap().pictures.unwrap().from_cache;
    assert!(!first.pictures.unwrap().from_cache && again.pictures.unwrap().from_cache);
    // Another size is another content; the first one stays.
    let small = ImageOptions { input: "4x4".parse().ok(), ..ImageOptions::default() };
    assert!(!cached(&small) && cached(&small) && cached(&ImageOptions::default()));
    world.put("red/0.png", &color([255, 9, 9], 8, 9));
    assert!(!cached(&ImageOptions::default()), "a file changed");
    std::fs::remove_file(world.root().join("red/0.png")).unwrap();
    assert!(!cached(&ImageOptions::default()), "a file is gone");
    // A damaged cache is noticed.
    let folder =
        world.folder.path().join("cache/pictures").read_dir().unwrap().next().unwrap().unwrap().path();
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
    assert!(!cached(&ImageOptions::default()) && cached(&ImageOptions::default()));
}

#[cfg(unix)]
#[test]
fn a_file_written_anew_at_the_same_length_and_time_is_decoded_again() {
    let world = World::two_classes(4, 8, 8);
    // Not compressed, so as long in every colour.
    let color =
        |rgb| encoded(&DynamicImage::ImageRgb8(ImageBuffer::from_pixel(8, 8, Rgb(rgb))), ImageFormat::Bmp);
    world.put("red/0.png", &color([255, 0, 0]));
    let cached = || world.load(&ImageOptions::default()).unwrap().pictures.unwrap().from_cache;
    assert!(!cached() && cached());
    let path = world.root().join("red/0.png");
    let (before, time) = (std::fs::read(&path).unwrap(), path.metadata().unwrap().modified().unwrap());
    // In place, and by another file that is renamed.
    for (renamed, rgb) in [(false, [255, 1, 0]), (true, [255, 2, 0])] {
        let bytes = color(rgb);
        assert_eq!(bytes.len(), before.len());
        let written = if renamed { world.folder.path().join("new.png") } else { path.clone() };
        std::fs::write(&written, bytes).unwrap();
        std::fs::File::options().write(true).open(&written).unwrap().set_modified(time).unwrap();
        std::fs::rename(&written, &path).unwrap();
        assert_eq!(path.metadata().unwrap().modified().unwrap(), time);
        assert!(!cached(), "{rgb:?}");
        assert!(cached());
    }
}

#[test]
fn pictures_of_one_colour_and_of_few_bits_are_counted() {
    let world = World::two_classes(4, 8, 8);
    let words = ImageBuffer::from_fn(8, 8, |x, y| Luma([(x * 100 + y) as u16]));
    world.put("red/ten.png", &encoded(&DynamicImage::ImageLuma16(words), ImageFormat::Png));
    for cached in [false, true] {
        let report = world.load(&ImageOptions::default()).unwrap().pictures.unwrap();
        assert_eq!(report.from_cache, cached);
        let found = |kind: FindingKind| {
            let findings = report.findings.iter().filter(move |finding| finding.kind == kind);
            findings.map(|finding| finding.path.clone()).collect::<Vec<_>>()
        };
        assert_eq!(found(FindingKind::FewBits), ["red/ten.png"]);
        assert_eq!(found(FindingKind::SingleColor).len(), 8);
        assert!(found(FindingKind::Reduced).is_empty());
    }
}

#[test]
fn every_kind_of_bad_file_is_named_with_its_reason() {
    let world = World::two_classes(5, 8, 8);
    let whole = color([255, 0, 0], 8, 8);
    world.put("red/empty.png", b"");
    world.put("red/cut.png", &whole[..whole.len() / 2]);
    world.put("red/text.jpg", b"this is no picture");
    world.put("blue/long.bmp", &vec![0; 20_001]);
    world.put("blue/wide.png", &color([0; 3], 101, 1));
    // A header that announces no rows.
    let mut no_rows = whole.clone();
    no_rows[20..24].fill(0);
    world.put("blue/norows.png", &no_rows);
    #[cfg(unix)]
    std::os::unix::fs::symlink("nowhere", world.root().join("blue/gone.png")).unwrap();
    world.put("blue/notes.txt", b"no picture by its name");
    let decode = crate::DecodeLimits { bytes: 20_000, side: 100, ..Default::default() };
    let options = ImageOptions { decode, ..ImageOptions::default() };
    let error = world.fails(&options);
    let bad = if cfg!(unix) { 7 } else { 6 };
    for words in [
        &format!("{bad} of {} pictures cannot be used", 10 + bad),
        "red/empty.png: the file is empty",
        "red/cut.png: damaged or unsupported PNG",
        "red/text.jpg: not a PNG",
        "blue/long.bmp: the file has 20001 bytes; expected at most 20000",
        "blue/wide.png: the image is 101x1 pixels; expected at most 100",
        "blue/norows.png: damaged",
        "--on-bad-image skip",
    ] {
        assert!(error.contains(words), "`{words}` is not in:\n{error}");
    }
    #[cfg(unix)]
    assert!(error.contains("blue/gone.png: cannot read it"), "{error}");
    let pair = world.load(&ImageOptions { on_bad_image: OnBadImage::Skip, ..options.clone() }).unwrap();
    assert_eq!(pair.train.len() + pair.test.len(), 10);
    let report = pair.pictures.unwrap();
    assert_eq!((report.bad.len(), report.ignored), (bad, vec!["blue/notes.txt".to_owned()]));
    // What is cached without them is no excuse for a run that wants to know.
    assert!(world.fails(&options).contains("cannot be used"));
}

#[test]
fn a_class_of_bad_pictures_only_is_short_of_images_when_they_are_skipped() {
    let world = World::two_classes(20, 8, 8);
    world.put("zebra/1.png", b"");
    let pair = world.load(&skip()).unwrap();
    let shortages: Vec<String> = crate::shortages(&pair, true).iter().map(ToString::to_string).collect();
    assert_eq!(shortages, ["class `zebra` has no usable image to train on: add some, or remove the class"]);
}

#[test]
fn no_sample_is_lost_without_a_word_whatever_the_workers() {
    let world = World::two_classes(500, 4, 4);
    for broken in [1, 10, 100] {
        for number in 0..broken {
            world.put(&format!("red/{}.png", number * 5), b"broken");
        }
        let error = world.fails(&ImageOptions::default());
        assert!(error.contains(&format!("{broken} of 1000 pictures cannot be used")), "{error}");
        let lines = error.lines().filter(|line| line.contains(".png:")).count();
        assert_eq!(lines, broken.min(20), "{error}");
        let pair = world.load(&skip()).unwrap();
        assert_eq!(pair.pictures.as_ref().unwrap().bad.len(), broken);
        assert_eq!(pair.train.len() + pair.test.len(), 1000 - broken);
        let train = Arc::new(pair.train);
        for workers in [0, 1, 4] {
            let config = LoaderConfig {
                batch_size: 32,
                shuffle: Some(1),
                sampler: Sampler::Once,
                augment: None,
                workers,
            };
            let indices: Arc<[u32]> = (0..train.len() as u32).collect();
            let loader =
                BatchLoader::new(train.clone(), indices, pair.preprocessing.clone(), config, Device::flex());
            let loader = loader.unwrap();
            let mut seen: Vec<u32> = loader.iter().flat_map(|batch| batch.unwrap().indices).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..train.len() as u32).collect::<Vec<_>>(), "{workers} workers");
        }
    }
}

#[test]
fn a_wrong_extension_is_read_by_content_and_counted() {
    let world = World::two_classes(5, 8, 8);
    world.put("red/really-png.jpg", &color([255, 0, 0], 8, 8));
    let jpeg = DynamicImage::ImageRgb8(ImageBuffer::from_pixel(8, 8, Rgb([0, 0, 255])));
    world.put("blue/really-jpeg.png", &encoded(&jpeg, ImageFormat::Jpeg));
    world.put("blue/right.jpeg", &encoded(&jpeg, ImageFormat::Jpeg));
    let pair = world.load(&ImageOptions::default()).unwrap();
    let report = pair.pictures.unwrap();
    assert_eq!(report.mislabelled, ["blue/really-jpeg.png", "red/really-png.jpg"]);
    assert_eq!(pair.train.len() + pair.test.len(), 13);
}

#[test]
fn named_parts_are_kept_and_nothing_is_set_aside() {
    let world = World::new();
    for (part, count) in [("train", 6), ("valid", 2), ("test", 3)] {
        for number in 0..count {
            world.put(&format!("{part}/a/{number}.png"), &grey(10, 8, 8));
            world.put(&format!("{part}/b/{number}.png"), &grey(200, 8, 8));
        }
    }
    let pair = world.load(&ImageOptions::default()).unwrap();
    assert_eq!((pair.train.len(), pair.test.len()), (16, 6));
    assert_eq!(pair.valid, [12, 13, 14, 15]);
    assert_eq!(pair.train.labels.ones().unwrap()[12..], [0, 0, 1, 1]);
}

fn kinds(report: &PictureReport) -> Vec<FindingKind> {
    // These pictures are of one colour each.
    let kinds = report.findings.iter().map(|finding| finding.kind);
    kinds.filter(|kind| *kind != FindingKind::SingleColor).collect()
}

/// Which of some pictures are tested on: for each name its content, and whether it is in the test part.
fn tested(pair: &DatasetPair) -> BTreeMap<String, (ContentHash, bool)> {
    [&pair.train, &pair.test]
        .into_iter()
        .zip([false, true])
        .flat_map(|(part, is_test)| {
            let each = part.files.iter().zip(part.content.iter());
            each.map(move |(file, content)| (file.clone(), (*content, is_test)))
        })
        .collect()
}

#[test]
fn what_is_set_aside_depends_on_what_a_picture_shows_and_on_nothing_else() {
    let world = World::two_classes(60, 8, 8);
    let before = tested(&world.load(&ImageOptions::default()).unwrap());
    assert_eq!(before.len(), 120);
    assert!(before.values().any(|(_, is_test)| *is_test));
    // One picture more, one less, one under another name that sorts first, and a copy of each that is tested on.
    world.put("red/new.png", &color([255, 1, 2], 8, 8));
    let gone = before.iter().find(|(name, (_, is_test))| name.starts_with("red/") && !is_test).unwrap().0;
    std::fs::remove_file(world.root().join(gone)).unwrap();
    let kept: Vec<&String> = before.keys().filter(|name| *name != gone).collect();
    std::fs::rename(world.root().join(kept[0]), world.root().join("blue/_first.png")).unwrap();
    for (number, name) in kept[1..].iter().enumerate() {
        let copy = format!("{}/copy {number}.png", name.split('/').next().unwrap());
        std::fs::copy(world.root().join(name), world.root().join(copy)).unwrap();
    }
    let after = tested(&world.load(&ImageOptions::default()).unwrap());
    assert_eq!(after.len(), 120 + 118);
    let parts: BTreeMap<ContentHash, bool> = before.values().copied().collect();
    for (name, (content, is_test)) in &after {
        let old = parts.get(content);
        assert!(old.is_none_or(|was_test| was_test == is_test), "{name} was moved");
        assert!(old.is_some() || name == "red/new.png", "{name}");
    }
    // A larger share holds the smaller one.
    let half = ImageOptions { test_fraction: 0.5, ..ImageOptions::default() };
    let half = tested(&world.load(&half).unwrap());
    assert!(after.iter().all(|(name, (_, is_test))| !is_test || half[name].1));
    assert!(half.values().filter(|(_, is_test)| *is_test).count() > 80);
}

#[test]
fn classes_without_a_test_picture_are_named() {
    let world = World::two_classes(60, 8, 8);
    let draws = |pair: &DatasetPair| {
        let units = pair.train.units.iter().zip(pair.train.labels.iter()).filter(|(_, label)| **label == [0]);
        units.map(|(unit, _)| test_draw(unit)).fold(1.0, f64::min)
    };
    let none = ImageOptions { test_fraction: 1e-9, ..ImageOptions::default() };
    let pair = world.load(&none).unwrap();
    assert!(pair.test.is_empty());
    assert_eq!(pair.pictures.as_ref().unwrap().untested, ["blue", "red"]);
    let some = ImageOptions { test_fraction: draws(&pair) + 1e-9, ..ImageOptions::default() };
    assert!(!world.load(&some).unwrap().pictures.unwrap().untested.contains(&"blue".to_owned()));
}

#[test]
fn what_leaves_too_few_pictures_is_told_with_a_number_that_works() {
    let world = World::new();
    for number in 0..3 {
        for class in 0..20 {
            world.put(&format!("{class:02}/{number}.png"), &color([class, number, 7], 8, 8));
        }
    }
    let most = ImageOptions { test_fraction: 0.9, ..ImageOptions::default() };
    let shortages = crate::shortages(&world.load(&most).unwrap(), true);
    assert!(shortages.len() > 10, "{shortages:?}");
    let fraction = shortages[0].test_fraction.unwrap();
    let text = shortages[0].to_string();
    assert!(
        text.contains("has 3 images") && text.contains(&format!("data.test_fraction={fraction}")),
        "{text}"
    );
    let enough = ImageOptions { test_fraction: fraction, ..ImageOptions::default() };
    assert_eq!(crate::shortages(&world.load(&enough).unwrap(), true), []);
    // No share of the test helps one picture, or copies of one.
    world.put("one/1.png", &color([1, 2, 3], 8, 8));
    for number in 0..3 {
        world.put(&format!("same/{number}.png"), &color([3, 2, 1], 8, 8));
    }
    let shortages = crate::shortages(&world.load(&enough).unwrap(), true);
    let texts: Vec<String> = shortages.iter().map(ToString::to_string).collect();
    assert!(texts.iter().all(|text| !text.contains("test_fraction") || text.contains("`same`")), "{texts:?}");
    assert!(texts.iter().any(|text| text.contains("class `one` has 1 image")), "{texts:?}");
    assert!(texts.iter().any(|text| text.contains("class `same` has 3 images")), "{texts:?}");
}

#[test]
fn pictures_of_one_group_are_in_one_part() {
    let world = World::two_classes(60, 8, 8);
    let row = |number: usize, class: &str| format!("{class}/{number}.png;{class};patient {}", number / 6);
    let rows = (0..60).flat_map(|number| [row(number, "red"), row(number, "blue")]);
    let text = format!("path;LABEL;Group\n{}\n", rows.collect::<Vec<_>>().join("\n")).replace(';', ",");
    world.put("list.csv", text.as_bytes());
    let list = world.root().join("list.csv").display().to_string();
    let load =
        || load_with(&list, &world.search(), &ImageOptions { test_fraction: 0.4, ..ImageOptions::default() });
    for pair in [load().unwrap(), load().unwrap()] {
        let (train, test): (BTreeSet<_>, BTreeSet<_>) =
            (pair.train.units.iter().collect(), pair.test.units.iter().collect());
        assert_eq!((train.len() + test.len(), train.intersection(&test).count()), (10, 0));
        assert!(!test.is_empty());
        assert_eq!(pair.pictures.unwrap().torn_groups, Vec::<String>::new());
    }
    // A copy in another group is told, and a group that the list itself divides.
    std::fs::copy(world.root().join("red/0.png"), world.root().join("red/59.png")).unwrap();
    let text = text.replace("Group", "Group,split");
    let halves = text.lines().enumerate().map(|(line, text)| match line {
        0 => text.to_owned(),
        1..6 => format!("{text},test"),
        _ => format!("{text},train"),
    });
    world.put("list.csv", halves.collect::<Vec<_>>().join("\n").as_bytes());
    let report = load().unwrap().pictures.unwrap();
    assert_eq!(report.torn_groups, ["patient 0"]);
    assert_eq!(report.duplicates.across_groups.len(), 1);
    assert_eq!(kinds(&report).iter().filter(|kind| **kind == FindingKind::Tested).count(), 1);
    assert!(kinds(&report).contains(&FindingKind::TornGroup));
}

#[test]
fn pictures_that_show_the_same_are_found_across_classes_and_parts() {
    let world = World::new();
    for (name, value) in [
        ("train/a/1.png", 1),
        ("train/a/2.png", 2),
        ("train/a/2 - Copy.png", 2),
        ("train/b/3.png", 3),
        ("train/b/one.png", 1),
        ("valid/b/4.png", 4),
        ("valid/b/three.png", 3),
        ("test/a/two.png", 2),
        ("test/b/5.png", 5),
        ("test/b/five.png", 5),
    ] {
        world.put(name, &grey(value, 8, 8));
    }
    let bmp = DynamicImage::ImageRgb8(ImageBuffer::from_pixel(8, 8, Rgb([5; 3])));
    world.put("test/b/5.bmp", &encoded(&bmp, ImageFormat::Bmp));
    let report = world.load(&ImageOptions::default()).unwrap().pictures.unwrap();
    let duplicates = &report.duplicates;
    let lines = |sets: &[Vec<Copied>]| {
        sets.iter()
            .map(|set| duplicates::in_line(set, |copy| format!("{}, {}", copy.class, copy.part)))
            .collect::<Vec<_>>()
    };
    let one = "train/a/1.png (a, train) = train/b/one.png (b, train)";
    let two = "train/a/2 - Copy.png (a, train) = train/a/2.png (a, train) = test/a/two.png (a, test)";
    let three = "train/b/3.png (b, train) = valid/b/three.png (b, valid)";
    let five = "test/b/5.bmp (b, test) = test/b/5.png (b, test) = test/b/five.png (b, test)";
    assert_eq!(lines(&duplicates.contradicting), [one]);
    assert_eq!(lines(&duplicates.across_parts), [two, three]);
    assert_eq!(lines(&duplicates.harmless), [five]);
    assert_eq!(duplicates.across_groups, Vec::<Vec<Copied>>::new());
    let expected = [
        FindingKind::Contradicting,
        FindingKind::Tested,
        FindingKind::MissingClass,
        FindingKind::Validated,
        FindingKind::Duplicate,
    ];
    assert_eq!(kinds(&report), expected);
    // A check fails for those that contradict or are tested on, and for no others.
    let checked =
        crate::check(&world.root().display().to_string(), &world.search(), &ImageOptions::default()).unwrap();
    let faults: Vec<FindingKind> =
        checked.findings.iter().map(|finding| finding.kind).filter(|kind| kind.is_fault()).collect();
    assert_eq!(faults, [FindingKind::Contradicting, FindingKind::Tested]);
}

#[test]
fn a_class_without_pictures_in_the_part_to_validate_on_is_no_shortage() {
    let world = World::new();
    for (name, value) in [("train/a/1.png", 1), ("train/b/2.png", 2), ("val/a/3.png", 3)] {
        world.put(name, &grey(value, 8, 8));
    }
    let all_to_train = ImageOptions { test_fraction: 1e-9, ..ImageOptions::default() };
    let pair = world.load(&all_to_train).unwrap();
    assert_eq!((crate::shortages(&pair, false), crate::shortages(&pair, true).len()), (vec![], 1));
}

#[test]
fn a_list_names_pictures_anywhere() {
    let world = World::two_classes(6, 8, 8);
    let mut text = "path,label,split\n".to_owned();
    for number in 0..6 {
        let split = if number < 4 { "train" } else { "test" };
        text.push_str(&format!("../data/red/{number}.png,rot,{split}\nblue/{number}.png,blau,{split}\n"));
    }
    world.put("list.csv", text.as_bytes());
    let list = world.root().join("list.csv").display().to_string();
    let pair = load_with(&list, &world.search(), &ImageOptions::default()).unwrap();
    assert_eq!(pair.train.class_names, ["blau", "rot"]);
    assert_eq!((pair.train.class_counts(), pair.test.class_counts()), (vec![4, 4], vec![2, 2]));
    world.put("list.csv", text.replace("red/3", "red/33").as_bytes());
    let error = load_with(&list, &world.search(), &ImageOptions::default()).unwrap_err().to_string();
    assert!(error.contains("1 of 12") && error.contains("../data/red/33.png: cannot read it"), "{error}");
}

#[test]
fn too_much_for_the_memory_allowed_is_refused_before_it_is_decoded() {
    let world = World::two_classes(20, 8, 8);
    let options =
        ImageOptions { memory_limit: 1 << 20, input: "3x512x512".parse().ok(), ..ImageOptions::default() };
    let error = world.fails(&options);
    assert!(error.contains("40 images of 3x512x512 need 30 MiB; 1 MiB are allowed"), "{error}");
    assert!(error.contains("--input") && error.contains("data.memory_mib=30"), "{error}");
}

#[test]
fn a_pipe_or_a_folder_with_the_name_of_a_picture_is_no_trap() {
    let world = World::two_classes(5, 8, 8);
    std::fs::create_dir(world.root().join("red/folder.png")).unwrap();
    assert_eq!(world.load(&ImageOptions::default()).unwrap().pictures.unwrap().bad, []);
    #[cfg(unix)]
    {
        std::os::unix::net::UnixListener::bind(world.root().join("red/socket.png")).unwrap();
        assert!(world.fails(&ImageOptions::default()).contains("red/socket.png: not a regular file"));
    }
}

#[test]
fn cifar_folders_are_recognised_as_they_unpack() {
    use crate::formats::cifar::{CIFAR10, tests::records};

    let world = World::new();
    world.put("cifar-10-batches-bin/data_batch_1.bin", &records(&CIFAR10, 40));
    world.put("cifar-10-batches-bin/test_batch.bin", &records(&CIFAR10, 10));
    let pair = world.load(&ImageOptions::default()).unwrap();
    assert_eq!((pair.train.len(), pair.test.len(), pair.train.shape), (40, 10, InputShape::new(3, 32, 32)));
    let grey = ImageOptions { input: "1x28x28".parse().ok(), ..ImageOptions::default() };
    assert_eq!(world.load(&grey).unwrap().train.shape, InputShape::new(1, 28, 28));
}

/// The findings of a check, a line each, and whether the data can be trained on.
fn checked(name: &std::path::Path, search: &Search) -> (String, bool) {
    let checked = crate::check(&name.display().to_string(), search, &skip()).unwrap();
    // These pictures are of one colour each, and too few to be tested on in every class.
    let mut findings = checked.findings;
    findings.retain(|finding| !matches!(finding.kind, FindingKind::Untested | FindingKind::SingleColor));
    (grouped(&findings, 100), checked.pair.is_some())
}

#[test]
fn a_check_lists_everything_where_most_is_broken() {
    let world = World::two_classes(5, 8, 8);
    world.put("zebra/1.png", b"<html>");
    world.put("zebra/2.png", b"");
    world.put("red/notes.txt", b"");
    world.put("_todo/later.heic", b"");
    let (findings, usable) = checked(&world.root(), &world.search());
    for words in [
        "cannot be used: 2\n  zebra/1.png: a web page",
        "zebra/2.png: the file is empty",
        "classes with too few pictures to train on: 1\n  zebra: class `zebra` has no usable image to train on",
        "_todo: an empty class folder",
        "_todo/later.heic: a picture of the format HEIC",
        "ignored: 1\n  red/notes.txt",
    ] {
        assert!(findings.contains(words), "`{words}` is not in:\n{findings}");
    }
    assert!(!usable);
    // Training refuses with the same list of what stops.
    let error = world.fails(&ImageOptions::default());
    assert!(error.contains("zebra/1.png: a web page"), "{error}");
    // Everything broken, at a name of its own each.
    for file in
        ["red", "blue"].iter().flat_map(|class| (0..5).map(move |number| format!("{class}/{number}.png")))
    {
        world.put(&file, b"");
    }
    let (findings, usable) = checked(&world.root(), &world.search());
    assert!(
        !usable
            && findings.contains("cannot be used: 12\n")
            && findings.contains("too few pictures to train on: 3\n"),
        "{findings}"
    );
}

#[test]
fn a_check_of_a_list_names_causes_and_of_an_odd_folder_asks() {
    let world = World::two_classes(6, 8, 8);
    let list = world.root().join("list.csv");
    let rows = |path: fn(&str, usize) -> String| {
        let rows = ["red", "blue"].map(|class| {
            (0..6).map(move |n| format!("{},{class}\n", path(class, n))).collect::<Vec<_>>().concat()
        });
        world.put("list.csv", format!("path,label\n{}", rows.concat()).as_bytes());
        checked(&list, &world.search())
    };
    assert_eq!(rows(|class, number| format!("{class}\\{number}.png")), (String::new(), true));
    let (findings, usable) = rows(|_, number| format!("{number}.png"));
    assert!(!usable && findings.contains("first in line 2"), "{findings}");
    let (findings, usable) = rows(|class, number| format!("x/{class}/{number}"));
    assert!(
        !usable && findings.contains("cannot be used: 12") && findings.contains("lacks its extension"),
        "{findings}"
    );
    let error =
        load_with(&list.display().to_string(), &world.search(), &ImageOptions::default()).unwrap_err();
    assert!(error.to_string().contains("lacks its extension"), "{error}");
    // A folder that is no data set.
    let world = World::new();
    for name in ["Dataset/a/1.png", "Dataset/b/1.png", "Examples/a/1.png", "Examples/b/1.png"] {
        world.put(name, &grey(1, 8, 8));
    }
    let (findings, usable) = checked(&world.root(), &world.search());
    assert!(
        !usable && findings.contains("not clear: 1") && findings.contains("Dataset, Examples"),
        "{findings}"
    );
    assert!(!checked(&world.root().join("Dataset/a"), &world.search()).1);
}

#[test]
fn a_list_may_name_more_than_256_classes() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<String> = (0..300).map(|class| format!("{class:03}.png,{class:03}")).collect();
    let path = folder.path().join("list.csv");
    std::fs::write(&path, format!("path,label\n{}", rows.join("\n"))).unwrap();
    let listing = list::of_csv(&path, Purpose::Training, None).unwrap();
    assert_eq!((listing.class_names.len(), listing.samples.len()), (300, 300));
    assert!(listing.samples.iter().zip(0..).all(|(sample, class)| sample.classes == [class]));
}

/// A picture and the names of its classes.
type NamedSet = (String, Vec<String>);

/// The pictures, `None` where each has one class, and what stops.
fn sets(text: &str, task: Option<model::TaskName>) -> (Option<Vec<NamedSet>>, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list.csv");
    std::fs::write(&path, text).unwrap();
    let listing = list::of_csv(&path, Purpose::Training, task).unwrap();
    let named = |sample: &listed::Sample| {
        let class = |&class: &u32| listing.class_names[class as usize].clone();
        (sample.name.clone(), sample.classes.iter().map(class).collect())
    };
    let stopping = listing.findings.iter().filter(|finding| finding.kind.stops());
    let stops = stopping.map(Finding::line).collect::<Vec<_>>().join("\n");
    (listing.is_sets.then(|| listing.samples.iter().map(named).collect()), stops)
}

#[test]
fn several_labels_stand_in_one_cell_or_in_columns_of_their_own() {
    let found = [("1.png", &["cat", "dog"][..]), ("2.png", &[]), ("3.png", &["dog"])];
    let expected: Vec<NamedSet> = found
        .into_iter()
        .map(|(name, classes)| (name.to_owned(), classes.iter().map(|&class| class.to_owned()).collect()))
        .collect();
    for text in [
        "path,labels\n1.png,dog; cat\n2.png,\n3.png,dog\n",
        "file;Tags\n1.png;cat|dog|cat\n2.png;\n3.png;dog\n",
        "image,classes\n1.png,;cat;dog;\n2.png,;\n3.png,dog\n",
        "path,dog,cat\n1.png,1,1\n2.png,0,0\n3.png,1,0\n",
        "path,age,cat,dog,split,name\n1.png,31,1.0,TRUE,train,a\n2.png,40,0,no,,b\n3.png,1,0.0,yes,train,c\n",
    ] {
        assert_eq!(sets(text, None), (Some(expected.clone()), String::new()), "{text}");
        let (asked, _) = sets(text, Some(model::TaskName::MultiLabel));
        assert_eq!(asked, Some(expected.clone()), "{text}");
    }
    // One class each, unless several are asked for.
    for text in [
        "path,label\n1.png,a;b\n2.png,c\n",
        "path,labels\n1.png,a\n2.png,c\n",
        "path,label\n1.png,a\n2.png,c\n",
    ] {
        assert_eq!(sets(text, None), (None, String::new()), "{text}");
        let (asked, _) = sets(text, Some(model::TaskName::MultiLabel));
        assert_eq!(asked.unwrap().len(), 2, "{text}");
    }
    let named = "path,labels\n1.png,a;b\n2.png,c\n";
    assert_eq!(sets(named, Some(model::TaskName::Classify)), (None, String::new()));
}

#[test]
fn faults_of_several_labels_are_named() {
    for (text, word) in [
        ("path,labels\n1.png,a;b\n2.png,a|b\n", "some labels have `;` in them and some `|`"),
        (
            "path,cat,dog\n1.png,1,0\n2.png,2,1\n3.png,1,1\n",
            "line 3: column `cat`: expected 0 or 1, found `2`",
        ),
        ("path,cat,dog\n1.png,1,0\n2.png,,1\n3.png,1,1\n", "column `cat`: expected 0 or 1, found ``"),
        ("path,cat,cat\n1.png,1,0\n2.png,0,1\n", "two columns are called `cat`"),
        ("path,cat,age\n1.png,1,33\n2.png,0,44\n", "expected a header line"),
        ("path,labels\n1.png,a;b\n2.png,c\n1.png,a\n", "listed twice"),
        (
            "path,labels,split\n1.png,a;b,\n2.png,c,test\n3.png,a,\n",
            "no picture for training has the label `c`",
        ),
    ] {
        let (_, error) = sets(text, None);
        assert!(error.contains(word), "{text}: {error}");
    }
    let (_, error) = sets("path,cat,dog\n1.png,1,0\n2.png,0,1\n", Some(model::TaskName::Classify));
    assert!(error.contains("expected a header line"), "{error}");
    let (_, repeated) = sets("path,labels\n1.png,a;b\n2.png,c\n1.png,b;a\n", None);
    assert_eq!(repeated, "");
}
