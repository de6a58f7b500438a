"""What scoring scripts written for Azure ML import, so that they run unmodified.

`finder` stands in for modules that the environment lacks; the other files are what stands there. `declared` reads what
the decorators of scripts say, those of the real `inference_schema` too.
"""
