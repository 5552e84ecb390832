//! Folders of pictures and CIFAR files, from outside: checked, shown, trained on, tested.

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;

use data::{Dataset, Search};
use image::{ImageFormat, Rgb, RgbImage};
use support::{Bench, files};

const NAMES: [&str; 10] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

/// Paper and ink of a picture: a dark ground and a bright, coloured stroke, other ones for every number.
fn colors(number: usize) -> [[f32; 3]; 2] {
    let hue = |step: usize| [(step * 97) % 256, (step * 57 + 85) % 256, (step * 31 + 170) % 256];
    let dark = hue(number).map(|value| value as f32 / 4.0);
    let bright = hue(number + 3).map(|value| 160.0 + value as f32 * 95.0 / 255.0);
    [dark, bright]
}

fn colored(digit: &[u8], number: usize, side: usize) -> RgbImage {
    let [paper, ink] = colors(number);
    RgbImage::from_fn(side as u32, side as u32, |x, y| {
        let border = (side - 28) / 2;
        let at = |v: u32| (v as usize).checked_sub(border).filter(|&v| v < 28);
        let share = at(x).zip(at(y)).map_or(0.0, |(x, y)| f32::from(digit[y * 28 + x]) / 255.0);
        Rgb([0, 1, 2].map(|c| (paper[c] + share * (ink[c] - paper[c])) as u8))
    })
}

fn digits() -> Dataset {
    data::load("mnist-sample", &Search::default()).expect("built in").train
}

/// `count` coloured digits as PNG and JPEG files in folders of classes.
fn write_pictures(folder: &Path, count: usize) {
    let digits = digits();
    for index in 0..count {
        let class = folder.join(NAMES[digits.labels[index] as usize]);
        fs::create_dir_all(&class).expect("a folder");
        let (format, extension) =
            if index % 3 == 0 { (ImageFormat::Jpeg, "jpg") } else { (ImageFormat::Png, "png") };
        let image = colored(digits.image(index), index, 28);
        image.save_with_format(class.join(format!("{index:04}.{extension}")), format).expect("a picture");
    }
}

/// The same digits as records of CIFAR-10.
fn write_cifar(folder: &Path, train: usize, test: usize) {
    let digits = digits();
    fs::create_dir_all(folder).expect("a folder");
    let record = |index: usize| {
        let image = colored(digits.image(index), index, 32);
        let plane = |channel: usize| image.pixels().map(move |pixel| pixel[channel]).collect::<Vec<u8>>();
        [vec![digits.labels[index] as u8], plane(0), plane(1), plane(2)].concat()
    };
    let records = |range: std::ops::Range<usize>| range.flat_map(record).collect::<Vec<u8>>();
    fs::write(folder.join("data_batch_1.bin"), records(0..train)).expect("written");
    fs::write(folder.join("test_batch.bin"), records(train..train + test)).expect("written");
}

fn bench() -> Bench {
    Bench::new(env!("CARGO_BIN_EXE_kiln"))
}

#[test]
fn a_folder_of_pictures_trains_tests_and_skips_only_aloud() {
    let bench = bench();
    write_pictures(&bench.path("digits"), 2000);
    let train = ["train", "--dataset", "digits", "--progress", "plain", "--json"];
    let result = bench.json(&[&train[..], &["--epochs", "6", "--name", "good"]].concat());
    let accuracy = result["test_accuracy"].as_f64().expect("a number");
    // A tenth would be guessing.
    assert!(accuracy > 0.9, "{accuracy}");

    // The model knows its classes and its input; the data, its test part.
    let evaluated = bench.json(&["evaluate", "--model", "artifacts/good", "--json"]);
    let record = fs::read_to_string(bench.path("artifacts/good/run.json")).expect("a record");
    let record: serde_json::Value = serde_json::from_str(&record).expect("JSON");
    let tested = &record["images"]["test"];
    // 15 % of 2000, within three deviations of a binomial distribution.
    assert!(tested.as_u64().is_some_and(|count| count.abs_diff(300) < 48), "{tested}");
    assert_eq!((&evaluated["test_accuracy"], &evaluated["images"]), (&result["test_accuracy"], tested));
    assert_eq!(evaluated["trained_on"], 0);
    let trained = bench.json(&["evaluate", "--model", "artifacts/good", "--split", "train", "--json"]);
    assert_eq!(trained["trained_on"], record["images"]["train"]);
    let mut names = NAMES;
    names.sort_unstable();
    let classes: Vec<&str> = evaluated["per_class"]
        .as_array()
        .expect("classes")
        .iter()
        .filter_map(|c| c["class"].as_str())
        .collect();
    assert_eq!(classes, names);

    // Bad pictures stop a run before it has a folder; skipped ones are counted and listed.
    fs::write(bench.path("digits/one/bad.png"), "no picture").expect("written");
    fs::write(bench.path("digits/two/empty.jpg"), "").expect("written");
    bench.run(&[&train[..], &["--name", "bad"]].concat()).fails(
        1,
        &["2 of 2002 pictures cannot be used", "one/bad.png: not a PNG", "two/empty.jpg: the file is empty"],
    );
    assert!(!bench.path("artifacts/bad").exists());
    let skipping =
        bench.run(&[&train[..], &["--name", "skip", "--epochs", "1", "--on-bad-image", "skip"]].concat());
    assert_eq!(skipping.status, 0, "{}", skipping.stderr);
    assert!(skipping.stderr.contains("2 pictures left out, unusable"), "{}", skipping.stderr);
    assert!(skipping.stderr.contains("images to train on, by class: eight"), "{}", skipping.stderr);
    let record = fs::read_to_string(bench.path("artifacts/skip/run.json")).expect("a record");
    let record: serde_json::Value = serde_json::from_str(&record).expect("JSON");
    assert_eq!(record["skipped_images"].as_array().map(Vec::len), Some(2));
    assert_eq!(record["skipped_images"][0]["path"], "one/bad.png");
    let total: u64 =
        record["images"].as_object().expect("splits").values().filter_map(serde_json::Value::as_u64).sum();
    assert_eq!(total, 2000);
}

#[test]
fn cifar_files_train_with_no_change_of_code() {
    let bench = bench();
    write_cifar(&bench.path("cifar"), 1600, 400);
    let result = bench.json(&[
        "train",
        "--dataset",
        "cifar",
        "--epochs",
        "4",
        "--progress",
        "none",
        "--json",
        "--set",
        "data.augment.mixup=0.2",
        "--set",
        "data.augment.crop=0.7",
        "--set",
        "data.augment.cutout=6",
        "--set",
        "data.sampler=balanced",
        "--class-weights",
        "balanced",
        "--name",
        "cifar",
    ]);
    let accuracy = result["test_accuracy"].as_f64().expect("a number");
    assert!(accuracy > 0.7, "{accuracy}");
    let config = fs::read_to_string(bench.path("artifacts/cifar/config.toml")).expect("a configuration");
    assert!(
        config.contains("class_weights = \"balanced\"") && config.contains("sampler = \"balanced\""),
        "{config}"
    );
    // Tested as grey images of another size, it is refused by nothing but its accuracy: they are fitted.
    let evaluated =
        bench.json(&["evaluate", "--model", "artifacts/cifar", "--dataset", "mnist-sample", "--json"]);
    assert_eq!(evaluated["images"], 500);
}

#[test]
fn check_reports_everything_and_its_status_says_whether_it_is_good() {
    let bench = bench();
    write_pictures(&bench.path("digits"), 300);
    let ran = bench.run(&["data", "check", "digits"]);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    for words in ["digits: 3x28x28 images", "all pictures are 28x28", "class", "SHA-256"] {
        assert!(ran.stdout.contains(words), "`{words}` is not in:\n{}", ran.stdout);
    }
    let checked = bench.json(&["data", "check", "digits", "--json"]);
    assert_eq!(checked["pictures"]["from_cache"], true);
    let images = |part: &str| checked[part]["images"].as_u64().unwrap_or_default();
    assert!(images("train") + images("test") == 300 && images("test").abs_diff(45) < 19, "{checked}");

    fs::write(bench.path("digits/one/bad.png"), "no picture").expect("written");
    fs::write(bench.path("digits/one/notes.txt"), "a note").expect("written");
    let other = bench.path("digits/five/other.png");
    colored(&[0; 784], 0, 28).save_with_format(other, ImageFormat::Jpeg).expect("a picture");
    let ran = bench.run(&["data", "check", "digits", "--fit", "letterbox", "--input", "16x20"]);
    assert_eq!(ran.status, 1, "{}", ran.stderr);
    for words in [
        "3x16x20 images",
        "cannot be used: 1\n  one/bad.png: not a PNG",
        "ignored: 1\n  one/notes.txt",
        "read by content: 1\n  five/other.png",
    ] {
        assert!(ran.stdout.contains(words), "`{words}` is not in:\n{}", ran.stdout);
    }
    bench.run(&["data", "check", "digits", "--json"]).fails(1, &[]);
    bench.run(&["data", "check", "digits", "--input", "big"]).fails(2, &["64x64"]);
    bench.run(&["data", "check", "digits", "--fit", "squeeze"]).fails(2, &["letterbox"]);
    bench.run(&["data", "check", "nowhere"]).fails(1, &["nowhere", "neither a folder"]);
    // An empty folder is one finding, and what stops is listed with everything else.
    fs::create_dir(bench.path("digits/_todo")).expect("a folder");
    fs::remove_file(bench.path("digits/one/bad.png")).expect("removed");
    let ran = bench.run(&["data", "check", "digits"]);
    assert!(
        ran.status == 0 && ran.stdout.contains("read by content: 1\n  five/other.png\n"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("left out: 1\n  _todo: an empty class folder"), "{}", ran.stdout);
    for entry in fs::read_dir(bench.path("digits/six")).expect("pictures").flatten() {
        fs::write(entry.path(), "<html>").expect("written");
    }
    for flags in [&["data", "check", "digits"][..], &["data", "check", "digits", "--json"]] {
        let ran = bench.run(flags);
        assert_eq!((ran.status, &ran.stderr[..]), (1, ""));
        for words in
            ["class `six` has no usable image to train on", "_todo", "one/notes.txt", "six/", "a web page"]
        {
            assert!(ran.stdout.contains(words), "`{words}` is not in:\n{}", ran.stdout);
        }
    }
    bench
        .run(&["train", "--dataset", "digits"])
        .fails(1, &["30 of 301 pictures cannot be used", "six/", "a web page"]);
}

#[test]
fn show_draws_a_sheet() {
    let bench = bench();
    write_pictures(&bench.path("digits"), 60);
    let show = ["data", "show", "digits", "--count", "4", "--epochs", "3"];
    let ran = bench.run(&[&show[..], &["--out", "sheet.png", "--set", "data.augment.flip=true"]].concat());
    assert_eq!((ran.status, ran.stdout.trim()), (0, "sheet.png"), "{}", ran.stderr);
    let plain = image::open(bench.path("sheet.png")).expect("a picture");
    let other = bench.run(&[&show[..], &["--out", "other.png", "--set", "data.augment.mixup=1"]].concat());
    assert_eq!(other.status, 0, "{}", other.stderr);
    let other = image::open(bench.path("other.png")).expect("a picture");
    assert_eq!((plain.width(), plain.height()), (other.width(), other.height()));
    assert_ne!(plain, other);
    bench.run(&show).fails(2, &["--out"]);
    let original = format!("digits/{}/0000.jpg", NAMES[digits().labels[0] as usize]);
    let before = fs::read(bench.path(&original)).expect("a picture");
    bench.run(&[&show[..], &["--out", &original]].concat()).fails(2, &[&original]);
    assert!(before == fs::read(bench.path(&original)).expect("a picture"));
    bench.run(&[&show[..], &["--out", "sheet.jpg"]].concat()).fails(2, &["sheet.jpg", ".png"]);
    // What is read is not written over.
    let picture = files(&bench.path("digits")).remove(0);
    let name = format!("digits/{picture}");
    fs::write(bench.path("list.csv"), format!("path,label\n{name},one\n")).expect("written");
    for data in ["digits", "list.csv"] {
        bench.run(&["data", "show", data, "--out", &name]).fails(2, &[&name, data]);
        bench
            .run(&["evaluate", "--dataset", "mnist-sample", "--rejection", data, "--picture", &name])
            .fails(2, &[&name, data]);
    }
    let wrong = [&show[..], &["--out", "x.png", "--set", "data.augment.flop=true"]].concat();
    bench.run(&wrong).fails(2, &["flop"]);
    assert!(!files(&bench.path("")).contains(&"x.png".to_owned()));
}

#[test]
fn a_rare_class_is_a_warning_that_names_the_remedies() {
    let bench = bench();
    write_pictures(&bench.path("digits"), 400);
    for entry in fs::read_dir(bench.path("digits/six")).expect("pictures").flatten().skip(5) {
        fs::remove_file(entry.path()).expect("removed");
    }
    let train = ["train", "--dataset", "digits", "--epochs", "1", "--progress", "plain"];
    let ran = bench.run(&train);
    for words in ["the classes are skewed: `", "--class-weights balanced", "data.sampler=balanced"] {
        assert!(ran.stderr.contains(words), "`{words}` is not in:\n{}", ran.stderr);
    }
    let ran = bench.run(&[&train[..], &["--class-weights", "balanced"]].concat());
    assert!(ran.status == 0 && !ran.stderr.contains("skewed"), "{}", ran.stderr);
}

#[test]
fn a_handful_of_updates_is_a_warning_that_says_how_to_get_more() {
    let bench = bench();
    write_pictures(&bench.path("digits"), 400);
    let train = ["train", "--dataset", "digits", "--epochs", "2", "--progress", "plain"];
    let ran = bench.run(&train);
    assert!(ran.stderr.contains("updates in all (batches of 128 images, 2 epochs)"), "{}", ran.stderr);
    assert!(ran.stderr.contains("--batch-size 16"), "{}", ran.stderr);
    let ran = bench.run(&[&train[..], &["--batch-size", "16"]].concat());
    assert!(ran.stderr.contains("updates in all") && !ran.stderr.contains("--batch-size"), "{}", ran.stderr);
    let ran = bench.run(&[&train[..], &["--batch-size", "4"]].concat());
    assert!(ran.status == 0 && !ran.stderr.contains("updates in all"), "{}", ran.stderr);
}

#[test]
fn fine_tuning_tells_images_that_its_start_has_learned() {
    let bench = bench();
    write_pictures(&bench.path("digits"), 200);
    write_pictures(&bench.path("later/train"), 200);
    write_pictures(&bench.path("later/test"), 40);
    bench.json(&["train", "--dataset", "digits", "--epochs", "1", "--name", "first", "--json"]);
    let finetune = |dataset: &str| {
        let from = ["finetune", "--from", "artifacts/first", "--dataset", dataset];
        bench.run(&[&from[..], &["--epochs", "1", "--progress", "plain"]].concat())
    };
    let ran = finetune("later");
    assert!(ran.stderr.contains("of these 40 test images"), "{}", ran.stderr);
    assert!(ran.stderr.contains("the starting model was trained on"), "{}", ran.stderr);
    let ran = finetune("digits");
    assert!(ran.status == 0 && !ran.stderr.contains("the starting model was trained on"), "{}", ran.stderr);
}

/// Bars, crosses and discs on plain grounds, `count` of each, as a person would collect them.
fn write_shapes(folder: &Path, count: u32) {
    for (class, name) in ["bar", "cross", "disc"].into_iter().enumerate() {
        fs::create_dir_all(folder.join(name)).expect("a folder");
        for index in 0..count {
            let (cx, cy) = (6 + index % 4, 6 + index / 4 % 4);
            let image = RgbImage::from_fn(16, 16, |x, y| {
                let (dx, dy) = (x.abs_diff(cx), y.abs_diff(cy));
                let inside = match class {
                    0 => dx <= 1 && dy <= 5,
                    1 => dx == dy && dx <= 5,
                    _ => dx * dx + dy * dy <= 16,
                };
                let shade = (index * 3) as u8;
                if inside { Rgb([250 - shade, 200, 90]) } else { Rgb([shade, 40, 90]) }
            });
            image.save(folder.join(name).join(format!("{index:03}.png"))).expect("a picture");
        }
    }
}

fn record(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path.join("run.json")).expect("a record")).expect("JSON")
}

#[test]
fn a_small_folder_is_learned_by_default_and_a_guess_is_called_one() {
    let bench = bench();
    write_shapes(&bench.path("shapes"), 24);
    let train = ["train", "--dataset", "shapes", "--progress", "none", "--json"];

    // Nobody says how long: it suits the pictures, and the configuration of the run holds it.
    let result = bench.json(&[&train[..], &["--name", "default"]].concat());
    let accuracy = result["test_accuracy"].as_f64().expect("a number");
    let baseline = result["baseline_accuracy"].as_f64().expect("a number");
    assert!(accuracy > 0.8 && baseline < 0.7, "{accuracy}, {baseline}");
    assert_eq!(result["no_better_than_chance"], false);
    let config = fs::read_to_string(bench.path("artifacts/default/config.toml")).expect("a configuration");
    assert!(config.contains("batch_size = 16\n"), "{config}");
    assert_eq!(
        record(&bench.path("artifacts/default"))["images"]["train"].as_u64().map(|n| n.div_ceil(16) * 150),
        Some(600)
    );
    assert!(config.contains("epochs = 150\n"), "{config}");

    // What is said wins, in every way of saying it, and one update is no training.
    fs::write(bench.path("short.toml"), "epochs = 1\n").expect("written");
    for (name, flags) in [
        ("flag", &["--epochs", "1"][..]),
        ("set", &["--set", "epochs=1"]),
        ("file", &["--config", "short.toml"]),
        ("batch", &["--batch-size", "128", "--set", "epochs=1"]),
    ] {
        // Without progress, too, a warning is heard.
        let ran = bench.run(&[&train[..3], &["--progress", "none", "--name", name], flags].concat());
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        assert!(!ran.stderr.contains("choose otherwise"), "{}", ran.stderr);
        assert!(ran.stderr.contains("always naming the largest class"), "{}", ran.stderr);
        assert!(ran.stderr.contains("too few updates (1)"), "{}", ran.stderr);
        let folder = bench.path("artifacts").join(name);
        let config = fs::read_to_string(folder.join("config.toml")).expect("a configuration");
        assert!(config.contains("epochs = 1\n") && config.contains("batch_size = 128\n"), "{config}");
        assert_eq!(record(&folder)["result"]["no_better_than_chance"], true);
        let page = fs::read_to_string(folder.join("report/index.html")).expect("a report");
        assert!(page.contains("always naming the largest class"), "{name}");
    }
}

/// Forty pictures of stripes, of a width that tells the class; no two are equal, and another `shift` makes others.
fn write_stripes(folder: &Path, width: u32, shift: u32) {
    fs::create_dir_all(folder).expect("a folder");
    for number in 0..40 {
        let shade = |x: u32| if ((x + number) / width).is_multiple_of(2) { 200 } else { 20 };
        let pixel = |x, y| image::Luma([(shade(x) + number + y * shift % 7) as u8]);
        image::GrayImage::from_fn(16, 16, pixel).save(folder.join(format!("{number}.png"))).expect("saved");
    }
}

/// All of what nothing was held back from, the classes by their names, and figures for those that are there.
#[test]
fn labelled_folders_are_evaluated_whole_and_by_the_names_of_their_classes() {
    let bench = bench();
    let stripes = |folder: &str, classes: &[(&str, u32)], shift| {
        for (class, width) in classes {
            write_stripes(&bench.path(folder).join(class), *width, shift);
        }
    };
    stripes("own", &[("fine", 1), ("middle", 3), ("wide", 7)], 0);
    let train = [
        "train",
        "--dataset",
        "own",
        "--epochs",
        "4",
        "--batch-size",
        "8",
        "--valid-fraction",
        "0.5",
        "--name",
        "m",
    ];
    let trained = bench.json(&[&train[..], &["--json", "--progress", "none"]].concat());
    let evaluate = |dataset: &str, more: &[&str]| {
        bench.json(&[&["evaluate", "--model", "artifacts/m", "--dataset", dataset, "--json"], more].concat())
    };
    // What the model was trained on: what was held back from it, wherever a copy lies and whatever its files are called.
    let own = evaluate("own", &[]);
    let record = fs::read_to_string(bench.path("artifacts/m/run.json")).expect("run.json");
    let record: serde_json::Value = serde_json::from_str(&record).expect("JSON");
    let tested = &record["images"]["test"];
    assert!(tested.as_u64().is_some_and(|count| count > 0 && count < 60), "{record}");
    assert_eq!((&own["split"], &own["images"]), (&"test".into(), tested), "{own}");
    assert_eq!(own["test_accuracy"], trained["test_accuracy"]);
    fs::rename(bench.path("own"), bench.path("copy")).expect("moved");
    assert_eq!(&evaluate("copy", &[])["images"], tested);
    let all = evaluate("copy", &["--split", "all"]);
    assert_eq!((&all["images"], &all["trained_on"]), (&120.into(), &record["images"]["train"]));
    assert_eq!(evaluate("copy", &[])["trained_on"], 0);
    bench.run(&["evaluate", "--model", "artifacts/m"]).fails(1, &["own", "--dataset"]);

    // A model that began as this one has seen its pictures too, in its run and out of it, and after a stop when this
    // one is gone.
    stripes("others", &[("fine", 2), ("middle", 4), ("wide", 5)], 3);
    let tune =
        ["finetune", "--from", "artifacts/m", "--dataset", "others", "--epochs", "2", "--progress", "none"];
    bench.json(&[&tune[..], &["--json", "--name", "tuned"]].concat());
    let stopped = bench.path("artifacts/stopped");
    for file in support::files(&bench.path("artifacts/tuned")) {
        let to = stopped.join(&file);
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        fs::copy(bench.path("artifacts/tuned").join(&file), to).expect("copied");
    }
    fs::remove_file(stopped.join("model.kiln")).expect("removed");
    let mut unfinished = self::record(&stopped);
    (unfinished["status"], unfinished["result"]) = ("interrupted".into(), serde_json::Value::Null);
    fs::write(stopped.join("run.json"), unfinished.to_string()).expect("written");
    fs::rename(bench.path("artifacts/m"), bench.path("m")).expect("moved");
    bench.json(&["finetune", "--resume", "artifacts/stopped", "--json", "--progress", "none"]);
    fs::rename(bench.path("m"), bench.path("artifacts/m")).expect("moved");
    fs::copy(bench.path("artifacts/tuned/model.kiln"), bench.path("tuned.kiln")).expect("copied");
    for model in ["artifacts/tuned", "artifacts/stopped", "tuned.kiln"] {
        let all =
            bench.json(&["evaluate", "--model", model, "--dataset", "copy", "--split", "all", "--json"]);
        let warned = all["warnings"].to_string().contains("was trained on");
        assert_eq!((&all["trained_on"], warned), (&record["images"]["train"], true), "{model}");
        let own =
            bench.json(&["evaluate", "--model", model, "--dataset", "others", "--split", "train", "--json"]);
        assert!(own["trained_on"].as_u64().is_some_and(|count| count > 0), "{model}: {own}");
    }

    // Other pictures: all of them, in folders, parts, and lists.
    stripes("new", &[("fine", 1), ("middle", 3), ("wide", 7)], 1);
    let new = evaluate("new", &[]);
    // Nothing is set aside of what is judged by all of it.
    let said = bench.run(&["evaluate", "--model", "artifacts/m", "--dataset", "new"]);
    assert!(said.status == 0 && !said.stderr.contains("set aside"), "{}", said.stderr);
    bench
        .run(&["predict", "--model", "artifacts/m", "--digits", "new"])
        .fails(2, &["`digits` needs a model of digits", "fine, middle, wide"]);
    assert_eq!(
        (&new["split"], &new["images"], &new["labelled_images"]),
        (&"all".into(), &120.into(), &120.into())
    );
    stripes("tests/test", &[("fine", 1), ("wide", 7)], 1);
    let tests = evaluate("tests", &[]);
    assert_eq!((&tests["split"], &tests["images"]), (&"test".into(), &80.into()));
    assert_eq!(tests["classes"]["absent"], serde_json::json!(["middle"]));
    assert_eq!(tests["classes"]["without_images"], serde_json::json!(["middle"]));
    assert!(tests["per_class"][1]["f1"].is_null() && tests["per_class"][0]["f1"].is_number());
    let rows = (0..40).map(|n| format!("new/wide/{n}.png,wide,test\n")).collect::<Vec<_>>().concat();
    fs::write(bench.path("list.csv"), format!("path,label,split\n{rows}")).expect("written");
    let list = evaluate("list.csv", &[]);
    assert_eq!((&list["images"], &list["classes"]["mapped"]), (&40.into(), &serde_json::json!(["wide"])));

    // A class that the model does not know is never counted as another.
    stripes("shifted", &[("bar", 1), ("middle", 3), ("wide", 7)], 1);
    let shifted = ["evaluate", "--model", "artifacts/m", "--dataset", "shifted"];
    bench.run(&shifted).fails(1, &["bar (40)", "fine, middle, wide", "--unknown-classes skip"]);
    let skipped = evaluate("shifted", &["--unknown-classes", "skip"]);
    assert_eq!((&skipped["images"], &skipped["classes"]["unknown_images"]), (&80.into(), &40.into()));
    assert_eq!(skipped["classes"]["unknown"], serde_json::json!(["bar"]));
    assert!(skipped["warnings"][0].as_str().is_some_and(|text| text.contains("bar (40)")), "{skipped}");
    let foreign = evaluate("new", &["--rejection", "shifted"]);
    assert_eq!(foreign["rejection"]["images"], 40, "only bars are foreign");

    // The data changed since: said, and evaluated all the same.
    fs::rename(bench.path("copy"), bench.path("own")).expect("moved");
    fs::rename(bench.path("own/fine/3.png"), bench.path("own/wide/x.png")).expect("moved");
    let changed = bench.run(&["evaluate", "--model", "artifacts/m"]);
    assert_eq!(changed.status, 0, "{}", changed.stderr);
    for words in ["has changed since", "wide/x.png (wide instead of fine)"] {
        assert!(changed.stderr.contains(words), "`{words}` is not in {}", changed.stderr);
    }
}

/// Whether a terminal would act on something in it; ends of lines are ours.
#[cfg(unix)]
fn acts(text: &str) -> bool {
    let turns = ['\u{202e}', '\u{2066}', '\u{200f}', '\u{2028}'];
    text.contains(|character: char| {
        (character.is_control() && !matches!(character, '\n' | '\t')) || turns.contains(&character)
    })
}

#[cfg(unix)]
#[test]
fn names_of_classes_and_files_act_on_no_terminal_and_are_no_formulas() {
    let bench = bench();
    let (clears, turns) = ("=1+cmd\u{1b}[2J\u{9b}31m", "@sum\u{202e}\u{7f}\rb");
    for (class, number) in [clears, turns].iter().flat_map(|class| (0..12).map(move |number| (class, number)))
    {
        let folder = bench.path(&format!("evil/{class}"));
        fs::create_dir_all(&folder).expect("a folder");
        let value = if *class == clears { 40 } else { 200 } + number;
        let image = RgbImage::from_pixel(8, 8, Rgb([value, value, value]));
        image.save(folder.join(format!("{number}.png"))).expect("a picture");
    }
    let rest = "\u{1b}]0;owned\u{7}\nerror: not ours";
    fs::write(bench.path(&format!("evil/{clears}/-2+3{rest}.png")), "no picture").expect("written");
    fs::write(bench.path(&format!("evil/{turns}/note{rest}")), "").expect("written");
    fs::create_dir(bench.path(&format!("evil/empty{rest}"))).expect("a folder");
    let train = ["train", "--dataset", "evil", "--progress", "plain", "--epochs", "1", "--batch-size", "4"];
    let small = ["--model", "mlp", "--threads", "1", "--valid-fraction", "0.2"];
    let skip = ["--on-bad-image", "skip"];
    let model = ["--model", "artifacts/a"];
    let bad = format!("evil/{clears}/-2+3{rest}.png");
    for (status, arguments) in [
        (1, [&train[..], &small].concat()),
        (0, [&train[..], &small, &skip, &["--name", "a"]].concat()),
        (0, [&train[..], &small, &skip, &["--name", "b", "--seed", "2"]].concat()),
        (1, vec!["data", "check", "evil"]),
        (1, vec!["data", "check", "evil", "--json"]),
        (0, [&["evaluate"][..], &model, &skip].concat()),
        (0, [&["evaluate", "--json"][..], &model, &skip].concat()),
        (1, [&["predict", "evil", &bad[..]][..], &model].concat()),
        (1, [&["predict", "evil", "--csv"][..], &model].concat()),
        (1, [&["predict", "evil", "--json"][..], &model].concat()),
        (1, [&["explain", "evil", "--out", "why"][..], &model].concat()),
        (0, vec!["runs"]),
        (0, vec!["compare", "artifacts/a", "artifacts/b"]),
        (1, vec!["train", "--dataset", "e\u{1b}[2Jvil"]),
        (2, vec!["train", "--e\u{1b}[2Jvil"]),
        (1, vec!["predict", "--model", "no\u{1b}[2Jmodel", "evil"]),
    ] {
        let ran = bench.run(&arguments);
        assert_eq!(ran.status, status, "{arguments:?}\n{}{}", ran.stdout, ran.stderr);
        for text in [&ran.stdout, &ran.stderr] {
            assert!(!acts(text), "{arguments:?}: {text:?}");
            assert!(!text.contains("\nerror: not ours"), "{arguments:?}: {text}");
        }
        if arguments.contains(&"--json") {
            let names =
                ran.stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
            assert!(
                names.map(|value| value.to_string()).any(|text| text.contains('\u{9b}')),
                "{arguments:?}"
            );
        }
        if arguments.contains(&"--csv") {
            let cells: Vec<&str> = ran.stdout.lines().skip(1).flat_map(|line| line.split(',')).collect();
            assert!(cells.iter().any(|cell| cell.starts_with("'=1+cmd\\x1b")), "{}", ran.stdout);
            assert!(!cells.iter().any(|cell| cell.starts_with(['=', '+', '-', '@'])), "{}", ran.stdout);
        }
    }
}

#[test]
fn predict_takes_from_a_folder_what_training_takes() {
    let bench = bench();
    write_pictures(&bench.path("digits"), 100);
    let one = files(&bench.path("digits")).first().cloned().expect("a picture");
    for name in
        ["._x.png", "@eaDir/x.png", ".ipynb_checkpoints/x.png", "Thumbs.db", "__MACOSX/x.png", "deep/x.JFIF"]
    {
        let to = bench.path("mixed").join(name);
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        fs::copy(bench.path("digits").join(&one), to).expect("copied");
    }
    #[cfg(unix)]
    std::os::unix::fs::symlink("..", bench.path("mixed/deep/up")).expect("a link");
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../artifacts/reference");
    let predict = ["predict", "mixed", "--json", "--model", reference.to_str().expect("UTF-8")];
    let ran = bench.run(&predict);
    assert_eq!((ran.status, ran.stdout.lines().count(), &ran.stderr[..]), (0, 1, ""), "{}", ran.stdout);
    assert!(ran.stdout.contains("mixed/deep/x.JFIF"));
    fs::write(bench.path("mixed/a.heic"), "").expect("written");
    #[cfg(unix)]
    std::os::unix::fs::symlink("nowhere", bench.path("mixed/gone.png")).expect("a link");
    let words: &[&str] =
        if cfg!(unix) { &["a.heic: a picture of the format HEIC", "gone.png"] } else { &["HEIC"] };
    bench.run(&predict).fails(1, words);
}

/// Labels are no bytes: classes beyond the 256th are told apart from the first.
#[test]
fn three_hundred_classes_train_evaluate_predict_and_are_exported() {
    const CLASSES: u32 = 300;
    let bench = bench();
    for (part, shift) in [("train", 0), ("valid", 1), ("test", 2)] {
        for class in 0..CLASSES {
            let folder = bench.path(&format!("many/{part}/c{class:03}"));
            fs::create_dir_all(&folder).expect("a folder");
            // Each class has a colour of its own, and each part a corner.
            let color = [class % 7 * 36, class / 7 % 7 * 36, class / 49 * 36].map(|value| value as u8);
            let image =
                RgbImage::from_fn(4, 4, |x, y| if x + y == shift { Rgb([255; 3]) } else { Rgb(color) });
            image.save(folder.join("1.png")).expect("a picture");
        }
    }
    let result = bench.json(&[
        "train",
        "--dataset",
        "many",
        "--epochs",
        "1",
        "--batch-size",
        "300",
        "--progress",
        "none",
        "--json",
        "--name",
        "many",
        "--set",
        "network={name='mlp', hidden=[64], dropout=0.0}",
        "--learning-rate",
        "0.01",
    ]);
    assert!(result["test_accuracy"].as_f64().is_some(), "{result}");
    let answers = fs::read_to_string(bench.path("artifacts/many/report/predictions.csv")).expect("a report");
    let last = answers.lines().find(|line| line.contains("test/c299/")).expect("the last class");
    assert_eq!(last.split(',').nth(1), Some("299"), "{last}");
    let evaluated = bench.json(&["evaluate", "--model", "artifacts/many", "--json"]);
    assert_eq!(evaluated["per_class"].as_array().map(Vec::len), Some(CLASSES as usize));
    assert_eq!((&evaluated["test_accuracy"], &evaluated["images"]), (&result["test_accuracy"], &300.into()));
    let picture = "many/test/c299/1.png";
    let answer = bench.json(&["predict", "--model", "artifacts/many", "--json", picture]).to_string();
    assert!(answer.contains("\"label\":\"c"), "{answer}");
    let ran = bench.run(&["export", "--model", "artifacts/many", "--format", "onnx", "--out", "many.onnx"]);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let onnx = fs::read(bench.path("many.onnx")).expect("an export");
    assert!(onnx.windows(4).any(|word| word == b"c299"), "the last class has its name");
}
