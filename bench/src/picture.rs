//! Curves as SVG files, both axes logarithmic. It is written by hand: a library for this changes the
//! features of shared dependencies, and so builds half of the workspace again.

use std::fmt::Write as _;
use std::path::Path;

use crate::Result;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
/// The plot's place: left, top, right, bottom.
const PLOT: (f64, f64, f64, f64) = (90.0, 44.0, 740.0, 384.0);
const COLOURS: [&str; 4] = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd"];

/// What was measured at several sizes.
pub(crate) struct Curve {
    pub label: String,
    /// Size and value, from the smallest size on.
    pub points: Vec<(f64, f64)>,
}

/// The powers of ten at the ends of an axis.
#[derive(Clone, Copy)]
struct Axis {
    low: i32,
    high: i32,
}

impl Axis {
    /// Returns an axis of whole decades that has these values; `None` if there are none.
    fn around(values: impl Iterator<Item = f64>) -> Option<Self> {
        let (low, high) = values
            .map(f64::log10)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), power| (low.min(power), high.max(power)));
        let (low, high) = low.is_finite().then_some((low.floor() as i32, high.ceil() as i32))?;
        Some(Self { low, high: high.max(low + 1) })
    }

    /// Returns where a value is between two ends.
    fn place(self, value: f64, from: f64, to: f64) -> f64 {
        let share = (value.log10() - f64::from(self.low)) / f64::from(self.high - self.low);
        from + share * (to - from)
    }

    fn decades(self) -> impl Iterator<Item = f64> {
        (self.low..=self.high).map(|power| 10_f64.powi(power))
    }
}

/// Draws curves into a file, or nothing if they have no points.
pub(crate) fn draw(file: &Path, title: &str, axes: (&str, &str), curves: &[Curve]) -> Result<()> {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let axis = |of: fn(&(f64, f64)) -> f64| Axis::around(points().map(of));
    let (Some(x), Some(y)) = (axis(|point| point.0), axis(|point| point.1)) else { return Ok(()) };
    let (left, top, right, bottom) = PLOT;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    text(&mut svg, (WIDTH / 2.0, 24.0), "middle", title)?;
    text(&mut svg, ((left + right) / 2.0, HEIGHT - 14.0), "middle", axes.0)?;
    text(&mut svg, (12.0, top - 14.0), "start", axes.1)?;
    for value in x.decades() {
        let at = x.place(value, left, right);
        line(&mut svg, (at, top), (at, bottom))?;
        text(&mut svg, (at, bottom + 18.0), "middle", &short(value))?;
    }
    for value in y.decades() {
        let at = y.place(value, bottom, top);
        line(&mut svg, (left, at), (right, at))?;
        text(&mut svg, (left - 8.0, at + 4.0), "end", &short(value))?;
    }
    for (number, curve) in curves.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let places: Vec<(f64, f64)> =
            curve.points.iter().map(|point| (x.place(point.0, left, right), y.place(point.1, bottom, top))).collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" ")
        )?;
        for (x, y) in places {
            writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>")?;
        }
        let legend = bottom - 12.0 - 20.0 * (curves.len() - 1 - number) as f64;
        writeln!(
            svg,
            "<rect x=\"{}\" y=\"{}\" width=\"16\" height=\"3\" fill=\"{colour}\"/>",
            left + 12.0,
            legend - 5.0
        )?;
        text(&mut svg, (left + 34.0, legend), "start", &curve.label)?;
    }
    svg += "</svg>\n";
    Ok(std::fs::write(file, svg)?)
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64)) -> std::fmt::Result {
    let ((x1, y1), (x2, y2)) = (from, to);
    writeln!(svg, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#ccc\"/>")
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) -> std::fmt::Result {
    writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>")
}

/// Formats a number as on an axis: 10 k, 3 M.
fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{} M", value / 1e6),
        value if value >= 1e3 => format!("{} k", value / 1e3),
        value => format!("{value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_its_curves_and_nothing_is_drawn_of_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("picture.svg");
        draw(&file, "nothing", ("x", "y"), &[]).unwrap();
        assert!(!file.exists());
        let curve = Curve { label: "ten of them".into(), points: vec![(10.0, 1e5), (1e3, 1e7), (1e5, 1e6)] };
        draw(&file, "growth", ("segments", "events/s"), &[curve]).unwrap();
        let svg = std::fs::read_to_string(file).unwrap();
        // From the lower left corner to the middle of the top, and half down again on the right.
        assert!(svg.contains("points=\"90.0,384.0 415.0,44.0 740.0,214.0\""), "{svg}");
        assert!(
            ["growth", "segments", "events/s", "ten of them", "100 k"].iter().all(|text| svg.contains(text)),
            "{svg}"
        );
    }
}
