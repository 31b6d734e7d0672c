"""One model applied by hand: evaluated, shown, its keypoints extracted."""
