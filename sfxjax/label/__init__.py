"""Labels by hand, few of them: a page to label frames in, the choice of the next frame, an audit, and a model fitted to them."""
