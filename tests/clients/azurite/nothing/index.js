// In the place of packages that are loaded, or only named, and never used.
