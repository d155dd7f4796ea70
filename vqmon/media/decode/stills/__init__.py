"""Still pictures: what the headers of JPEG, PNG, WebP and AVIF files tell before a picture is decoded."""
