//! A camera that changes: the images are really transformed, pixel by pixel.

use mloop_vision::Pixels;

/// What a camera does to a scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Camera {
    /// Hands it on as it is.
    Good,
    /// A cheap replacement: flat contrast, a bright haze, soft edges, a noisy sensor.
    Cheap,
}

/// Of 256 levels of contrast, so many are left.
const CONTRAST: i32 = 110;
/// Brightness that the haze adds.
const HAZE: i32 = 75;
/// Largest deviation of the sensor's noise, levels.
const NOISE: i32 = 14;

impl Camera {
    /// Takes a picture; `shot` numbers the pictures, so that noise differs between them and is the
    /// same in every run.
    ///
    /// # Panics
    /// Never: the picture has the size of the scene.
    #[must_use]
    pub fn take(self, scene: &Pixels, shot: u64) -> Pixels {
        if self == Self::Good {
            return scene.clone();
        }
        let (width, height) = (scene.spec().width, scene.spec().height);
        let mut state = shot.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut picture = Vec::with_capacity(scene.data().len());
        for (index, plane) in scene.data().chunks(width * height).enumerate() {
            for y in 0..height {
                for x in 0..width {
                    let soft = blurred(plane, width, height, x, y);
                    let level = soft * CONTRAST / 256 + HAZE + noise(&mut state);
                    picture.push(level.clamp(0, 255) as u8);
                }
            }
            debug_assert!(index < scene.spec().channels, "one plane for each channel");
        }
        Pixels::new(scene.spec(), picture).expect("a picture of the scene's size")
    }
}

/// Mean of the 3 × 3 neighbourhood, edges repeated.
fn blurred(plane: &[u8], width: usize, height: usize, x: usize, y: usize) -> i32 {
    let mut sum = 0;
    for row in [y.saturating_sub(1), y, (y + 1).min(height - 1)] {
        for column in [x.saturating_sub(1), x, (x + 1).min(width - 1)] {
            sum += i32::from(plane[row * width + column]);
        }
    }
    sum / 9
}

/// Noise from -[`NOISE`] to [`NOISE`] by an xorshift generator (Marsaglia 2003).
fn noise(state: &mut u64) -> i32 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 33) as i32 % (2 * NOISE + 1) - NOISE
}

#[cfg(test)]
mod tests {
    use mloop_vision::InputSpec;

    use super::*;

    #[test]
    fn the_cheap_camera_changes_every_picture_the_same_way_each_time() {
        let spec = InputSpec { channels: 1, height: 4, width: 4 };
        let scene =
            Pixels::new(spec, (0..16).map(|level| level * 16).collect()).expect("16 levels");
        assert_eq!(Camera::Good.take(&scene, 1), scene);
        let picture = Camera::Cheap.take(&scene, 1);
        assert_eq!(picture, Camera::Cheap.take(&scene, 1));
        assert_ne!(picture, Camera::Cheap.take(&scene, 2));
        let spread = |pixels: &Pixels| {
            let (low, high) = (pixels.data().iter().min(), pixels.data().iter().max());
            high.zip(low).map(|(high, low)| high - low)
        };
        assert!(spread(&picture) < spread(&scene), "the contrast is flatter");
    }
}
