"""What a CSV file of an export is. Pure: values in, values out."""
