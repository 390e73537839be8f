"""Recipe composition and the resumable stages of the whole job."""
