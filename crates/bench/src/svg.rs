//! What all plots have in common.

/// The colour of text.
pub(crate) const INK: &str = "#1e293b";

/// A picture of `width` × `height` pixels with these shapes on a white background.
pub(crate) fn picture(width: f64, height: f64, shapes: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{shapes}</svg>\n"
    )
}
