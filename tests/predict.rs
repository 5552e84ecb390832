//! `kiln predict`, `kiln explain` and `kiln evaluate --rejection`, from outside: pictures as people have them.

#[path = "support/strips.rs"]
#[allow(dead_code, reason = "the measuring program uses all of it")]
mod strips;
#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use model::Picture;
use serde_json::Value;
use support::{Bench, Ran};

/// A folder with a model that knows what it was trained on.
fn bench() -> Bench {
    let bench = Bench::new(env!("CARGO_BIN_EXE_kiln"));
    bench.json(&[
        "train",
        "--dataset",
        "mnist-sample",
        "--epochs",
        "4",
        "--json",
        "--progress",
        "none",
        "--name",
        "first",
    ]);
    bench
}

fn sample() -> data::DatasetPair {
    data::load("mnist-sample", &data::Search::default()).expect("it is built in")
}

fn png(pixels: &[u8], width: usize, height: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(pixels, width as u32, height as u32, ExtendedColorType::L8)
        .expect("encoded");
    bytes
}

fn save(path: &Path, pixels: &[u8], width: usize, height: usize) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, png(pixels, width, height)).expect("written");
}

fn lines(ran: &Ran) -> Vec<Value> {
    ran.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// A digit as a photo shows it: dark pen on unevenly lit paper, `size` times as large, off the centre.
fn photo(image: &[u8], size: usize) -> (Vec<u8>, usize, usize) {
    let (width, height) = (size * 45, size * 60);
    let pixels = (0..width * height)
        .map(|at| {
            let (x, y) = (at % width, at / width);
            let (u, v) = ((x / size) as isize - 4, (y / size) as isize - 22);
            let inside = (0..28).contains(&u) && (0..28).contains(&v);
            let ink = if inside { f32::from(image[(v * 28 + u) as usize]) / 255.0 } else { 0.0 };
            let light = 240.0 - 110.0 * x as f32 / width as f32;
            let grain = ((x * 7919 + y * 104_729) % 7) as f32 - 3.0;
            (light * (1.0 - 0.75 * ink) + grain) as u8
        })
        .collect();
    (pixels, width, height)
}

#[test]
fn pictures_of_the_test_split_are_answered_as_evaluate_answers() {
    let bench = bench();
    let pair = sample();
    for index in 0..pair.test.len() {
        save(&bench.path(&format!("digits/{index:03}.png")), pair.test.image(index), 28, 28);
    }
    let ran = bench.run(&["predict", "--model", "artifacts/first", "--json", "digits"]);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let answers = lines(&ran);
    assert_eq!(answers.len(), 500);
    let right = answers
        .iter()
        .zip(pair.test.labels.iter())
        .filter(|(a, label)| a["label"].as_str().and_then(|text| text.parse().ok()) == Some(label[0]))
        .count();
    let evaluated = bench.json(&["evaluate", "--model", "artifacts/first", "--json"]);
    let accuracy = evaluated["test_accuracy"].as_f64().expect("a number");
    assert!((right as f64 / 500.0 - accuracy).abs() < 0.001, "{right} of 500, evaluate says {accuracy}");
    for (index, answer) in answers.iter().enumerate() {
        assert_eq!(answer["path"], format!("digits/{index:03}.png"));
        assert_eq!(answer["top"].as_array().expect("a list").len(), 3);
        assert_eq!(answer["top"][0]["label"], answer["label"]);
        assert!(
            answer["probability"].as_f64().expect("a number")
                >= answer["top"][1]["probability"].as_f64().expect("a number")
        );
    }
    // 99 of 100 are to be kept; of 500, with a threshold from 200, twice the share may be missing and more.
    let kept = answers.iter().filter(|answer| answer["rejected"] == false).count();
    assert!(kept >= 470, "{kept} of 500 kept");
}

#[test]
fn photos_are_read_whatever_their_light() {
    let bench = bench();
    let pair = sample();
    for index in 0..60 {
        let (pixels, width, height) = photo(pair.test.image(index), 3 + index % 5);
        save(&bench.path(&format!("photos/{index:02}.png")), &pixels, width, height);
    }
    let ran = bench.run(&["predict", "--model", "artifacts/first", "--json", "photos", "--show", "seen"]);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let right = lines(&ran)
        .iter()
        .zip(pair.test.labels.iter())
        .filter(|(a, label)| a["label"].as_str().and_then(|text| text.parse().ok()) == Some(label[0]))
        .count();
    // The network is right in about 95 of 100.
    assert!(right >= 52, "{right} of 60");
    let seen = image::open(bench.path("seen/07.png")).expect("a picture").to_luma8();
    assert_eq!(seen.dimensions(), (28, 28));
    let apart: u64 =
        seen.as_raw().iter().zip(pair.test.image(7)).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    let mass: u64 = pair.test.image(7).iter().map(|&value| u64::from(value)).sum();
    assert!(apart * 3 < mass, "what was seen differs by {apart} of {mass}");
}

#[test]
fn a_strip_of_digits_becomes_a_text() {
    let reference = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../artifacts/reference");
    let reference = reference.to_str().expect("UTF-8");
    let bench = Bench::new(env!("CARGO_BIN_EXE_kiln"));
    let pair = sample();
    let mut texts = Vec::new();
    for index in 0..100 {
        let condition = &strips::CONDITIONS[index % 2];
        let (picture, text) = strips::strip(&pair.test, 5, index as u64, 5, condition);
        save(
            &bench.path(&format!("strips/{index:02}.png")),
            picture.pixels(),
            picture.width(),
            picture.height(),
        );
        texts.push((text, picture.width(), picture.height()));
    }
    let ran = bench.run(&["predict", "--model", reference, "--digits", "--json", "strips"]);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let answers = lines(&ran);
    let read = |answer: &Value| answer["text"].as_str().expect("a text").to_owned();
    let count = |answers: &[Value]| {
        answers.iter().zip(&texts).filter(|(answer, (text, ..))| read(answer) == *text).count()
    };
    let right = count(&answers);
    assert!(right >= 85, "{right} of 100 strips");
    // Reading without refusing.
    let ran = bench.run(&["predict", "--model", reference, "--digits", "--json", "--keep", "1", "strips"]);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let right = count(&lines(&ran));
    assert!(right >= 90, "{right} of 100 strips where none is refused");
    // What cannot be read is said to be so.
    let wrong = answers.iter().zip(&texts).filter(|(answer, (text, ..))| {
        let read = read(answer);
        read.len() != text.len() || read.chars().zip(text.chars()).any(|(a, b)| a != b && a != '?')
    });
    let wrong = wrong.count();
    assert!(wrong <= 5, "{wrong} of 100 strips");
    for (answer, (_, width, height)) in answers.iter().zip(&texts) {
        let mut before = 0;
        for digit in answer["digits"].as_array().expect("digits") {
            let number = |at: usize| digit["box"][at].as_u64().expect("a number") as usize;
            assert!(number(0) + number(2) <= *width && number(1) + number(3) <= *height, "{digit}");
            assert!(2 * number(0) + number(2) >= before, "from the left: {answer}");
            before = 2 * number(0) + number(2);
            let probability = digit["probability"].as_f64().expect("a number");
            assert!((0.0..=1.0).contains(&probability));
        }
    }
    let table =
        bench.run(&["predict", "--model", reference, "--digits", "strips/00.png", "--show", "seen.png"]);
    assert!(table.stdout.contains("each digit"), "{}", table.stdout);
    let seen = image::open(bench.path("seen.png")).expect("a picture");
    assert_eq!((seen.width(), seen.height()), (5 * 28, 28));
}

/// Digits of the sample at places of a dark canvas, three times as large; a place is that of the image's corner.
fn drawn(test: &data::Dataset, width: usize, height: usize, digits: &[(usize, usize, usize)]) -> Picture {
    let mut pixels = vec![0u8; width * height];
    for &(number, left, top) in digits {
        let image = test.image(number);
        for (y, x) in (0..84).flat_map(|y| (0..84).map(move |x| (y, x))) {
            let value = &mut pixels[(top + y) * width + left + x];
            *value = (*value).max(image[y / 3 * 28 + x / 3]);
        }
    }
    Picture::new(width, height, 1, pixels).expect("a picture")
}

#[test]
fn several_digits_are_said_to_be_that_and_one_is_not() {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../artifacts/reference");
    let model = train::start::model_io::load(&reference, &burn::tensor::Device::flex()).expect("the model");
    let classifier = model::Classifier::new(model, burn::tensor::Device::flex());
    let test = sample().test;
    let several = |picture: &Picture| classifier.examine(picture).expect("it is examined").several;
    let (mut missed, mut missed_near) = (Vec::new(), Vec::new());
    for number in 0..10 {
        let (a, b) = (number, number + 10);
        for (width, height, places) in [
            (260, 100, [(a, 8, 8), (b, 130, 8)]),
            (320, 150, [(a, 8, 8), (b, 220, 55)]),
            (100, 260, [(a, 8, 8), (b, 8, 150)]),
            (240, 260, [(a, 8, 8), (b, 140, 150)]),
        ] {
            if !several(&drawn(&test, width, height, &places)) {
                missed.push(places);
            }
        }
        // A fifth of their height apart, they may be the halves of a digit that was cut through.
        if !several(&drawn(&test, 100, 190, &[(a, 8, 8), (b, 8, 80)])) {
            missed_near.push((a, b));
        }
    }
    assert!(missed.len() <= 1, "{missed:?}");
    assert!(missed_near.len() <= 2, "{missed_near:?}");
    let mut wrong = Vec::new();
    for number in 0..test.len().min(150) {
        let whole = drawn(&test, 120, 130, &[(number, 20, 24)]);
        // A bar of ground across the middle breaks the strokes, and dirt lies beside.
        let mut pixels = whole.pixels().to_vec();
        pixels[66 * 120..68 * 120].fill(0);
        let broken = Picture::new(120, 130, 1, pixels.clone()).expect("a picture");
        for (x, y) in [(6, 6), (7, 6), (6, 7), (110, 120), (111, 120), (110, 121), (111, 121)] {
            pixels[y * 120 + x] = 255;
        }
        let dirty = Picture::new(120, 130, 1, pixels).expect("a picture");
        wrong.extend([whole, broken, dirty].iter().filter(|picture| several(picture)).map(|_| number));
        // As it is stored it is not touched.
        let stored = Picture::new(28, 28, 1, test.image(number).to_vec()).expect("a picture");
        let prepared = classifier.examine(&stored).expect("it is examined");
        assert_eq!(prepared.image, classifier.prepare(&stored).expect("it fits"), "{number}");
        assert!(!prepared.several, "{number}");
    }
    assert!(wrong.len() <= 2, "{wrong:?}");

    let bench = Bench::new(env!("CARGO_BIN_EXE_kiln"));
    let two = drawn(&test, 260, 100, &[(0, 8, 8), (1, 130, 8)]);
    save(&bench.path("two.png"), two.pixels(), 260, 100);
    let reference = reference.to_str().expect("UTF-8");
    let predict =
        |flags: &[&str]| bench.run(&[&["predict", "two.png", "--model", reference], flags].concat());
    assert!(predict(&[]).stdout.contains("rejected: several digits: use --digits"));
    let answer = &lines(&predict(&["--json"]))[0];
    assert_eq!((&answer["rejected"], &answer["reason"]), (&true.into(), &"several-digits".into()));
    assert!(predict(&["--csv"]).stdout.trim_end().ends_with("several digits: use --digits"));
    let read = &lines(&predict(&["--digits", "--json"]))[0];
    assert_eq!(read["text"].as_str().map(str::len), Some(2), "{read}");
    assert!(read["reason"].is_null(), "{read}");
}

#[test]
fn a_bad_picture_does_not_stop_the_others() {
    let bench = bench();
    let pair = sample();
    save(&bench.path("in/b.png"), pair.test.image(1), 28, 28);
    save(&bench.path("in/deep/d.PNG"), pair.test.image(2), 28, 28);
    fs::write(bench.path("in/a.jpg"), b"no picture at all").expect("written");
    fs::write(bench.path("in/c.png"), &png(pair.test.image(0), 28, 28)[..60]).expect("written");
    fs::write(bench.path("in/notes.txt"), b"not looked at").expect("written");
    let ran = bench.run(&["predict", "--model", "artifacts/first", "in", "missing.png", "--csv"]);
    ran.fails(1, &["in/a.jpg: not a PNG", "in/c.png: damaged", "missing.png: cannot read it"]);
    let rows: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(rows[0], "path,label,probability,rejected,label_2,probability_2,label_3,probability_3,reason");
    assert_eq!(rows.len(), 3, "{}", ran.stdout);
    assert!(rows[1].starts_with("in/b.png,") && rows[2].starts_with("in/deep/d.PNG,"), "{}", ran.stdout);
}

#[test]
fn standard_input_holds_one_picture() {
    let bench = bench();
    let bytes = png(sample().test.image(3), 28, 28);
    let send = |arguments: &[&str], bytes: &[u8]| {
        let mut child = bench
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        child.stdin.take().expect("a pipe").write_all(bytes).expect("sent");
        Ran::from(child.wait_with_output().expect("the program ends"))
    };
    let ran = send(&["predict", "--model", "artifacts/first", "-", "--json", "--top", "1"], &bytes);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let answer = &lines(&ran)[0];
    assert_eq!(answer["path"], "-");
    assert_eq!(answer["top"].as_array().expect("a list").len(), 1);
    send(&["predict", "--model", "artifacts/first", "-"], b"").fails(1, &["-: the file is empty"]);
    send(&["predict", "--model", "artifacts/first", "-", "-"], &bytes).fails(2, &["once"]);
}

#[test]
fn wrong_flags_are_usage_errors() {
    let bench = bench();
    save(&bench.path("a.png"), sample().test.image(0), 28, 28);
    save(&bench.path("b.png"), sample().test.image(1), 28, 28);
    fs::create_dir(bench.path("empty")).expect("a folder");
    let fails = |arguments: &[&str], status: i32, words: &[&str]| {
        let mut all = vec!["predict", "--model", "artifacts/first"];
        all.extend(arguments);
        bench.run(&all).fails(status, words);
    };
    fails(&[], 2, &["IMAGE"]);
    fails(&["a.png", "--json", "--csv"], 2, &["--csv"]);
    fails(&["a.png", "--top", "0"], 2, &["--top"]);
    fails(&["a.png", "--reject-below", "1.5"], 2, &["from 0 to 1"]);
    fails(&["a.png", "--keep", "0.1"], 2, &["from 0.5 to 1"]);
    fails(&["a.png", "b.png", "--show", "seen.png"], 2, &["2 pictures", "folder"]);
    fails(&["a.png", "--show", "b.png/x"], 1, &["cannot write"]);
    for other in ["x.txt", "why.jpg", "b.tiff"] {
        fails(&["a.png", "--show", other], 2, &[other, ".png"]);
        bench.run(&["explain", "a.png", "--out", other]).fails(2, &[other, ".png"]);
    }
    let before = fs::read(bench.path("a.png")).expect("a picture");
    for there in ["./a.png", "."] {
        fails(&["a.png", "--show", there], 2, &["pictures that are read"]);
    }
    assert_eq!(fs::read(bench.path("a.png")).expect("a picture"), before);
    fails(&["empty"], 1, &["holds no picture"]);
    fails(&["a.png", "--top", "-1"], 2, &["'-1' for '--top", "from 1 to 1000"]);
    bench.run(&["predict", "a.png", "--model", "none"]).fails(1, &["none"]);
    bench.run(&["evaluate", "--model", "artifacts/first", "--picture", "x.png"]).fails(2, &["--rejection"]);
    bench.run(&["explain", "a.png", "--model", "artifacts/first", "--class", "x"]).fails(2, &["0, 1, 2"]);
}

#[test]
fn given_pictures_are_never_written_over() {
    let bench = bench();
    let names = ["in/a.png", "in/b.png"];
    for (index, name) in names.iter().enumerate() {
        save(&bench.path(name), sample().test.image(index), 28, 28);
    }
    let read = || names.map(|name| fs::read(bench.path(name)).expect("a picture"));
    let before = read();
    for (command, flag) in [("predict", "--show"), ("explain", "--out")] {
        let run = |from: &str, to: &str| bench.run(&[command, from, "--model", "artifacts/first", flag, to]);
        run("in/a.png", "in/a.png").fails(2, &["in/a.png", "overwritten"]);
        run("in/a.png", "in/../in/a.png").fails(2, &["overwritten"]);
        run("in", "in").fails(2, &["in/a.png", "overwritten"]);
        assert_eq!(run("in", "out").status, 0);
    }
    assert!(before == read());
}

#[test]
fn a_decision_is_explained_as_a_picture() {
    let bench = bench();
    save(&bench.path("in/a.png"), sample().test.image(0), 28, 28);
    save(&bench.path("in/b.png"), sample().test.image(1), 28, 28);
    fs::write(bench.path("in/c.png"), b"nothing").expect("written");
    let ran = bench.run(&["explain", "in/a.png", "--model", "artifacts/first", "--json"]);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    assert_eq!(lines(&ran)[0]["out"], "explanation.png");
    let sheet = image::open(bench.path("explanation.png")).expect("a picture").to_rgb8();
    assert!(sheet.width() > 800 && sheet.height() > 600, "{:?}", sheet.dimensions());
    let orange = sheet.pixels().filter(|pixel| pixel[0] > 150 && pixel[2] < 60).count();
    assert!(orange > 1000, "{orange} orange pixels");
    let ran = bench.run(&["explain", "in", "--model", "artifacts/first", "--out", "sheets", "--class", "3"]);
    ran.fails(1, &["in/c.png"]);
    assert!(ran.stdout.contains("in/a.png: 3 "), "{}", ran.stdout);
    assert_eq!(support::files(&bench.path("sheets")), ["a.png", "b.png"]);
}

#[test]
fn strangers_are_refused() {
    let bench = bench();
    let run = fs::read_to_string(bench.path("artifacts/first/run.json")).expect("a run");
    let run: Value = serde_json::from_str(&run).expect("JSON");
    let calibration = &run["result"]["calibration"];
    for key in
        ["temperature", "valid_error_before", "valid_error", "test_error_before", "test_error", "test_kept"]
    {
        assert!(calibration[key].as_f64().is_some_and(f64::is_finite), "{key}: {calibration}");
    }
    let page = fs::read_to_string(bench.path("artifacts/first/report/index.html")).expect("a report");
    assert!(page.contains("Coverage against error") && page.contains("expected calibration error"));
    assert!(bench.path("artifacts/first/report/coverage.png").is_file());

    // Blocks of random grey, as a data set of four IDX files.
    let folder = bench.path("blocks");
    fs::create_dir(&folder).expect("a folder");
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    for (name, count) in [("train", 20u8), ("t10k", 200)] {
        let mut images = vec![0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 28, 0, 0, 0, 28];
        let mut labels = vec![0, 0, 8, 1, 0, 0, 0, count];
        for index in 0..count {
            let cells: Vec<u8> = (0..49).map(|_| random()).collect();
            images.extend((0..784).map(|at| cells[at / 28 / 4 * 7 + at % 28 / 4]));
            labels.push(index % 10);
        }
        fs::write(folder.join(format!("{name}-images-idx3-ubyte")), images).expect("written");
        fs::write(folder.join(format!("{name}-labels-idx1-ubyte")), labels).expect("written");
    }
    let arguments =
        ["evaluate", "--model", "artifacts/first", "--rejection", "blocks", "--picture", "refused.png"];
    let evaluated = bench.json(&[&arguments[..], &["--json"]].concat());
    let rejection = &evaluated["rejection"];
    assert_eq!(rejection["images"], 200);
    assert!(rejection["auroc"].as_f64().expect("a number") > 0.95, "{rejection}");
    let at_95 = &rejection["thresholds"][2];
    assert!((at_95["keep"].as_f64().expect("a number") - 0.95).abs() < 1e-6, "{at_95}");
    assert!(at_95["refused"].as_f64().expect("a number") > 0.9, "{at_95}");
    assert!((at_95["kept"].as_f64().expect("a number") - 0.95).abs() < 0.05, "{at_95}");
    assert!(image::open(bench.path("refused.png")).is_ok());
    let words = bench.run(&arguments).stdout;
    assert!(words.contains("foreign refused") && words.contains("refused below"), "{words}");
    let old = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../artifacts/reference");
    if model_lacks_confidence(&old) {
        let old = old.to_str().expect("UTF-8").to_owned();
        bench
            .run(&["evaluate", "--model", &old, "--dataset", "mnist-sample", "--rejection", "blocks"])
            .fails(1, &["train it again"]);
    }
}

fn model_lacks_confidence(path: &Path) -> bool {
    train::start::model_io::load_metadata(path).expect("the reference model").confidence.is_none()
}

/// Every mutation of a picture is answered or refused, never a panic.
#[test]
fn hostile_pictures_are_answered_or_refused() {
    let bench = bench();
    let pair = sample();
    let folder = bench.path("hostile");
    fs::create_dir(&folder).expect("a folder");
    let whole = png(pair.test.image(0), 28, 28);
    let mut state = 7u64;
    for number in 0..150 {
        let mut bytes = whole.clone();
        for _ in 0..=number % 4 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (state >> 33) as usize % bytes.len();
            bytes[at] = (state >> 20) as u8;
        }
        if number % 5 == 0 {
            bytes.truncate((state >> 40) as usize % whole.len());
        }
        fs::write(folder.join(format!("m{number:03}.png")), bytes).expect("written");
    }
    let flat = |value: u8, width: usize, height: usize| vec![value; width * height];
    for (name, width, height) in
        [("one", 1, 1), ("wide", 10_000, 1), ("tall", 1, 10_000), ("large", 3000, 2000)]
    {
        for value in [0, 127, 255] {
            save(&folder.join(format!("{name}-{value}.png")), &flat(value, width, height), width, height);
        }
    }
    let noise: Vec<u8> = (0..300u32 * 200).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    save(&folder.join("noise.png"), &noise, 300, 200);
    save(
        &folder.join("stripes.png"),
        &(0..400 * 300).map(|at| if at % 400 / 5 % 2 == 0 { 0 } else { 255 }).collect::<Vec<u8>>(),
        400,
        300,
    );
    for digits in [false, true] {
        let mut arguments = vec!["predict", "--model", "artifacts/first", "--json", "hostile"];
        if digits {
            arguments.push("--digits");
        }
        let ran = bench.run(&arguments);
        ran.fails(1, &["damaged"]);
        let answers = lines(&ran);
        let named = |name: &str| {
            let path = format!("hostile/{name}.png");
            answers.iter().find(|answer| answer["path"] == path.as_str()).unwrap_or_else(|| panic!("{name}"))
        };
        for name in ["one-0", "one-255", "wide-127", "tall-0", "large-0", "large-127", "large-255", "noise"] {
            assert_eq!(named(name)["rejected"], true, "{name}");
        }
    }
    let ran = bench.run(&[
        "explain",
        "--model",
        "artifacts/first",
        "hostile/one-0.png",
        "hostile/noise.png",
        "--out",
        "why",
    ]);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
}

/// Outside of a checkout there is no reference model on the disk.
#[test]
fn without_a_model_the_one_inside_the_program_answers() {
    let bench = Bench::new(env!("CARGO_BIN_EXE_kiln"));
    let digits = sample().test;
    fs::write(bench.path("digit.png"), png(digits.image(0), 28, 28)).expect("written");
    let ran = bench.run(&["predict", "digit.png"]);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains(&digits.class_names[digits.labels[0] as usize]), "{}", ran.stdout);
    assert!(ran.stderr.contains("the reference model inside the program"), "{}", ran.stderr);
    bench.json(&["explain", "digit.png", "--json"]);
    bench.json(&["export", "--format", "npz", "--out", "model.npz", "--json"]);
    let evaluated = bench.json(&["evaluate", "--dataset", "mnist-sample", "--json"]);
    assert!(evaluated["test_accuracy"].as_f64().is_some_and(|accuracy| accuracy > 0.95), "{evaluated}");
    let tuned = ["finetune", "--dataset", "mnist-sample", "--limit", "40", "--epochs", "1", "--keep-head"];
    bench.json(&[&tuned[..], &["--progress", "none", "--json"]].concat());

    // Another name is not taken for it, and a damaged file of that name is not passed over.
    bench.run(&["predict", "--model", "artifacts/other", "digit.png"]).fails(1, &["artifacts/other"]);
    fs::create_dir_all(bench.path("artifacts/reference")).expect("a folder");
    fs::write(bench.path("artifacts/reference/model.kiln"), "no model").expect("written");
    bench.run(&["predict", "digit.png"]).fails(1, &["not a Kiln model file"]);
}

/// As in `kiln models | head -1`: no error, whatever the command prints.
#[test]
fn output_that_nobody_reads_is_no_error() {
    let bench = Bench::new(env!("CARGO_BIN_EXE_kiln"));
    fs::write(bench.path("digit.png"), png(sample().test.image(0), 28, 28)).expect("written");
    for arguments in [
        &["models"][..],
        &["runs"],
        &["runs", "--json"],
        &["predict", "digit.png"],
        &["predict", "digit.png", "--json"],
        &["predict", "digit.png", "--csv"],
        &["data", "list"],
        &["--help"],
    ] {
        let mut command = bench.command(arguments);
        let mut child = command
            .env("KILN_LOG", "error")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        // The reader goes before anything is written.
        drop(child.stdout.take());
        let ran = Ran::from(child.wait_with_output().expect("it ends"));
        assert!(
            [0, 141].contains(&ran.status) && ran.stderr.is_empty(),
            "{arguments:?}: {} {}",
            ran.status,
            ran.stderr
        );
    }
}
